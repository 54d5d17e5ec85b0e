"""What goes wrong in real use ends in words: odd devices, broken scores, edited models, damaged files."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

import ticketlab
from ticketlab.cli import main
from ticketlab.data.load import load
from ticketlab.diagnosis import diagnose
from ticketlab.errors import InputError
from ticketlab.experiment import settings
from ticketlab.experiment.study import Study
from ticketlab.mask import Mask
from ticketlab.parameters import prunable
from ticketlab.report.html import page, write
from ticketlab.rounds import rounds_needed

TESTS = Path(tiny.__file__).parent
STUDY = ["--data", "digits", "--limit-train", "60", "--limit-test", "40", "--model", "tiny:net", "--epochs", "1"]
STUDY += ["--batch-size", "30", "--margin", "20", "--seeds", "3", "--sparsity", "0.5", "--jobs", "1"]
STUDY += ["--checks", "rearrange", "--out", "study"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with the tests' modules on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TESTS))
    return tmp_path


def trained(*arguments: Any, **options: Any) -> Any:
    raise AssertionError("a training was started")


@pytest.mark.parametrize("device", ["foo", "mps", "meta", "cpu:1", "", "cuda:x"])
def test_devices_that_no_study_runs_on(device: str) -> None:
    with pytest.raises(InputError, match=r"asked for device .*, got .*\. Use --device cpu, cuda or cuda:N\."):
        settings.numerics(device)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"asked for device 'cuda:2', got a machine with 2 \(cuda:0 to cuda:1\)"):
        settings.numerics("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="asked for device 'cuda:0', got a machine or a torch without CUDA"):
        settings.numerics("cuda:0")


def test_the_gpu_is_part_of_the_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not {"gpu", "cudnn"} & set(settings.numerics("cpu"))
    monkeypatch.setattr(settings, "checked_device", torch.device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Some GPU of {device}")
    found = settings.numerics("cuda:1")
    assert found["device"] == "cuda:1" and found["gpu"] == "Some GPU of cuda:1" and "cudnn" in found
    json.dumps(found)


def key_error(model: nn.Module, batches: Any, loss: Any) -> Any:
    return {}["nothing"]


def attribute_error(model: nn.Module, batches: Any, loss: Any) -> Any:
    return model.nothing


def type_error(model: nn.Module, batches: Any, loss: Any) -> Any:
    return torch.ones("three")  # type: ignore[arg-type]


def assertion_error(model: nn.Module, batches: Any, loss: Any) -> Any:
    raise AssertionError


def value_error(model: nn.Module, batches: Any, loss: Any) -> Any:
    raise ValueError("no such\nthing")


def no_names(model: nn.Module, batches: Any, loss: Any) -> Any:
    return dict(enumerate(model.parameters()))


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (key_error, "asked key_error for scores, got KeyError in {at}: 'nothing'"),
        (attribute_error, "asked attribute_error for scores, got AttributeError in {at}: 'Net' object has"),
        (type_error, "asked type_error for scores, got TypeError in {at}: ones()"),
        (assertion_error, "asked assertion_error for scores, got AssertionError in {at}."),
        (value_error, "asked value_error for scores, got ValueError in {at}: no such"),
        (no_names, "no_names was asked for scores of 3 weights, got none for first.weight"),
    ],
)
def test_errors_inside_a_score(score: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        ticketlab.prune(tiny.Net(), score, 0.5, data=[(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))])
    line = score.__code__.co_firstlineno + 1
    assert said.format(at=f"{__file__}:{line}") in str(error.value)
    if score is not no_names:
        assert type(error.value.__cause__).__name__ in str(error.value)


def test_a_model_that_fails_on_the_batch_keeps_its_message() -> None:
    with pytest.raises(
        InputError, match=r"snip was given \(4, 2, 8, 8\) .* but the model .* fails on them in .*tiny\.py:"
    ):
        ticketlab.prune(tiny.Net(), "snip", 0.5, data=[(torch.rand(4, 2, 8, 8), torch.tensor([0, 1, 2, 0]))])


def test_a_broken_score_on_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for jobs in ("1", "2"):
        assert main(["check", "test_robustness:key_error", *STUDY, "--jobs", jobs]) == 1
        out, err = capsys.readouterr()
        assert out == "" and "got KeyError in" in err and "Traceback" not in err


def test_pages_that_cannot_be_written_cost_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "folder").mkdir()
    (here / "file").write_text("")
    monkeypatch.setattr("ticketlab.experiment.execute.train_jobs", trained)
    for path in ("folder", "file/page.html", "file/deep/page.html"):
        assert main(["check", "snip", *STUDY, "--html", path]) == 2
        message = capsys.readouterr().err
        assert "asked to write the report to" in message and path in message and ", got " in message
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    assert main(["check", "snip", *STUDY, "--html", "new/page.html"]) == 2
    assert "nothing may be written" in capsys.readouterr().err
    assert sorted(p.name for p in here.iterdir()) == ["file", "folder"]


def test_a_page_that_fails_late_does_not_cost_the_results(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["check", "snip", *STUDY, "--json"]
    assert main(asked) == 0
    first = capsys.readouterr().out
    (here / "study" / "report.html").unlink()
    (here / "study" / "report.html").mkdir()
    assert main(asked) == 2
    out, err = capsys.readouterr()
    assert out == first and json.loads(out)["complete"] and "asked to write" in err
    with pytest.raises(InputError, match="asked to write"):
        write(json.loads(first), here / "study")


def workers_of(pid: int) -> Iterator[int]:
    """The processes that multiprocessing started for work, without its own helper."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == pid and "spawn_main" in (entry / "cmdline").read_text():
                yield int(entry.name)
        except (OSError, ValueError, IndexError):
            continue


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_driver_leaves_no_workers(tmp_path: Path) -> None:
    """Workers that are in the middle of a training that would take minutes."""
    script = tmp_path / "driver.py"
    script.write_text(
        "import pathlib, sys\nimport tiny\nfrom dataclasses import replace\n"
        "if __name__ == '__main__':\n"
        "    recipe = replace(tiny.RECIPE, epochs=100_000)\n"
        "    found = tiny.prepared(pathlib.Path(sys.argv[1]), ['lottery'], checks=['rearrange'], recipe=recipe)\n"
        "    found.run(2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen([sys.executable, str(script), str(tmp_path / "s")], env=environment)
    workers: list[int] = []
    try:
        until = time.monotonic() + 60
        # The initial weights are there: workers have started, and train now.
        while time.monotonic() < until and len(list((tmp_path / "s").rglob("*.safetensors"))) < 2:
            time.sleep(0.1)
            assert driver.poll() is None
        workers = list(workers_of(driver.pid))
        assert len(workers) == 2
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        until = time.monotonic() + 10
        while time.monotonic() < until and any(map(runs, workers)):
            time.sleep(0.1)
        assert not any(map(runs, workers))
    finally:
        driver.kill()
        driver.wait()
        for pid in filter(runs, workers):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seeds": "x"}, "seeds is 'x'"),
        ({"seeds": True}, "seeds is 'True'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"data": []}, "data is"),
        ({"model": "conv"}, "model is 'conv'"),
        ({"model": {}}, "no 'name'"),
        ({"recipe": None}, "recipe is 'None'"),
        ({"recipe": {"drops": [], "epochs": "two"}}, "epochs"),
        ({"recipe": {"drops": [], "pace": 2}}, "pace"),
        ({"numerics": 3}, "numerics is"),
        ({"scoring": {"per_class": "4"}}, "scoring per_class"),
        ({"statistics": {"alpha": "small"}}, "statistics alpha"),
        ({"methods": "snip"}, "methods is 'snip'"),
        ({"methods": [1]}, "an entry of methods is '1'"),
        ({"checks": {"rearrange": 1}}, "checks is"),
        ({"sparsities": ["0.8"]}, "an entry of sparsities"),
        ({"sparsities": 0.8}, "sparsities is"),
        ({"commands": 3}, "commands is"),
        ({"created": []}, "created is"),
    ],
)
def test_a_study_file_of_wrong_types(
    tmp_path: Path, changes: dict[str, Any], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tiny.prepared(tmp_path / "s")
    found.study.save(found.folder)
    file = found.folder / "study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert main(["show", str(found.folder)]) == 2
    message = capsys.readouterr().err
    assert "cannot be read" in message and named in " ".join(message.split()) and "Traceback" not in message


def test_an_edited_model_is_said_in_words(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(here))
    text = "import tiny\ndef make(num_classes):\n    model = tiny.Net(num_classes)\n    return model\n"
    (here / "edited_model.py").write_text(text)
    found = tiny.prepared(here / "s", model="edited_model:make")
    found.study.save(found.folder)
    (here / "edited_model.py").write_text(text.replace("    return", "    model.norm.eps = 1e-3\n    return"))
    monkeypatch.delitem(sys.modules, "edited_model")
    importlib.invalidate_caches()
    with pytest.raises(InputError) as error:
        tiny.prepared(here / "s", model="edited_model:make")
    lines = str(error.value).splitlines()
    assert lines[1].strip() == "the code of model 'edited_model:make' changed since the study began"
    assert len(lines) == 3 and "another --out" in lines[2] and "undo the change" in lines[2]
    assert found.study.model["identity"] not in str(error.value)


def test_a_changed_module_is_said_in_words(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s", model=tiny.Net())
    found.study.save(found.folder)
    with pytest.raises(InputError, match=r"the code or the weights of model 'Net' changed since the study began"):
        tiny.prepared(tmp_path / "s", model=tiny.Net())


def test_every_command_of_a_study_is_kept(tmp_path: Path) -> None:
    folder, recipe = tmp_path / "s", replace(tiny.RECIPE, epochs=1)
    commands = ["ticketlab check snip --seeds 3", "ticketlab check snip 'a <b>' --seeds 4"]
    for command, seeds in zip([commands[0], commands[1], commands[0]], [3, 4, 3], strict=True):
        found = tiny.prepared(folder, checks=["rearrange"], recipe=recipe, seeds=seeds, command=command)
        results = found.run()
    assert found.study.commands == tuple(commands) == Study.load(folder).commands
    assert results["command"] == found.study.command == Study.load(folder).command == "\n".join(commands)
    assert "\n".join(commands) in unescape(page(results))
    # A study without a command (from Python) has none, and one of before has one.
    assert tiny.prepared(tmp_path / "t").study.commands == ()
    value = json.loads((folder / "study.json").read_text())
    del value["commands"]
    (folder / "study.json").write_text(json.dumps({**value, "command": "once"}))
    assert Study.load(folder).commands == ("once",)


def test_a_folder_for_data_without_files(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load("digits", tmp_path)
    assert "asked for data set 'digits'" in str(error.value) and str(tmp_path) in str(error.value)


def test_a_model_that_refuses_one_example() -> None:
    class Fussy(tiny.Net):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[0] > 1
            return super().forward(x)

    model = Fussy()
    found = diagnose(model, Mask.dense(prunable(model)), (1, 8, 8))
    assert found.sparsity == 0 and found.dead_units is None and found.effective_sparsity is None


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan")])
def test_shares_that_never_get_there(share: float) -> None:
    with pytest.raises(InputError, match=r"asked to prune in rounds of share .*, got .*0 < share < 1"):
        rounds_needed(0.9, share)


def test_a_bad_share_is_refused_before_anything_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "imp,share=1.0", *STUDY]) == 2
    assert "asked to prune in rounds of share 1" in capsys.readouterr().err
    assert not (here / "study").exists()
