"""Exports to other programs: dense state dicts, ONNX, and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from commands import refused, run
from safetensors.torch import load_file
from torch import Tensor

import ticketlab
from ticketlab.errors import InputError
from ticketlab.ticket_file import save_ticket

from .made import odd_ticket, same, ticket


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder of its own, with the tests' modules on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    save_ticket("t.safetensors", ticket().ticket, ticket().facts)
    return tmp_path


def outputs(weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
    model = tiny.Net()
    model.load_state_dict(weights)
    with torch.no_grad():
        return model.eval()(inputs)


def test_dense_is_a_plain_state_dict_with_zeros() -> None:
    file = odd_ticket()
    ticketlab.export_ticket(file, "w.safetensors", "dense")
    found = load_file("w.safetensors")
    assert set(found) == set(file.ticket.weights)
    for name, kept in file.ticket.mask.items():
        assert torch.equal(found[name].view(torch.int32)[~kept], torch.zeros(int((~kept).sum()), dtype=torch.int32))
        assert torch.equal(found[name].view(torch.int32)[kept], file.ticket.weights[name].view(torch.int32)[kept])
    assert same(found["last.bias"], file.ticket.weights["last.bias"])
    assert run("export", "t.safetensors", "--to", "plain.safetensors", "--format", "dense") == 0
    tiny.Net().load_state_dict(load_file("plain.safetensors"))


def test_compact_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "t.safetensors", "--to", "small.safetensors", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["format"] == "compact" and said["bytes"] == Path("small.safetensors").stat().st_size
    assert run("export", "small.safetensors", "--to", "again.safetensors") == 0
    out, err = capsys.readouterr()
    assert "reads back bit-equal" in out and "compact: again.safetensors" in err
    assert Path("again.safetensors").read_bytes() == Path("small.safetensors").read_bytes()
    assert ticketlab.load_ticket("again.safetensors").facts == ticket().facts


def test_onnx_computes_what_torch_computes(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    asked = ["export", "t.safetensors", "--to", "m.onnx", "--format", "onnx", "--model", "tiny:net"]
    assert run(*asked, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["max_difference"] < 1e-5
    session = runtime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    for n in (1, 7):
        inputs = torch.randn(n, 1, 8, 8)
        found = torch.from_numpy(session.run(None, {"inputs": inputs.numpy()})[0])
        torch.testing.assert_close(found, outputs(dict(ticket().ticket.weights), inputs), rtol=1e-4, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["ticketlab"]) == ticket().facts


def test_a_file_cannot_ask_for_code(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "export", "t.safetensors", "--to", "m.onnx", "--format", "onnx")
    assert "'tiny:net', which is no registered model" in said and "--model" in said


def test_onnx_without_its_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    asked = ["export", "t.safetensors", "--to", "m.onnx", "--format", "onnx", "--model", "tiny:net"]
    assert "onnxscript, which is not there: pip install 'ticketlab[onnx]'" in refused(capsys, *asked)


def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert "got no such file" in refused(capsys, "export", "nothing", "--to", "x")
    assert "got a folder" in refused(capsys, "export", "t.safetensors", "--to", ".")
    assert "needs no model" in refused(capsys, "export", "t.safetensors", "--to", "x", "--model", "conv")
    asked = ["export", "t.safetensors", "--to", "m.onnx", "--format", "onnx", "--model"]
    assert "weights of another model" in refused(capsys, *asked, "mlp")
    with pytest.raises(InputError, match="asked for format 'zip'"):
        ticketlab.export_ticket(ticket(), "x", "zip")
    with pytest.raises(InputError, match="got int"):
        ticketlab.export_ticket(3, "x")
    with pytest.raises(InputError, match=r"facts without model\.name"):
        ticketlab.export_ticket(replace(ticket(), facts={}), "x", "onnx")
