"""Ticket files: what comes back is what was written, or a refusal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from damaged_files import cut_off, flipped, signed_again
from safetensors.torch import save_file
from torch import Tensor

import ticketlab
from ticketlab.errors import InputError
from ticketlab.program import Ticket
from ticketlab.ticket_file import save_ticket

FACTS = {"method": "snip", "sparsity": 0.7, "seed": 0, "accuracy": 93.25, "nested": {"é": [1, None, True]}}


def ticket() -> Ticket:
    torch.manual_seed(0)
    model = tiny.Net()
    mask = ticketlab.prune(model, "magnitude", 0.7)
    weights = mask.apply_(model).state_dict()
    weights["last.bias"][0] = -0.0
    weights["last.bias"][1] = float("nan")
    return Ticket(mask, weights, 2.0)


def same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, whatever the numbers are."""
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "ticket.safetensors"
    save_ticket(found, ticket(), FACTS)
    return found


def test_round_trip(path: Path) -> None:
    wanted, found = ticket(), ticketlab.load_ticket(str(path))
    assert found.facts == FACTS
    assert found.ticket.at == 2.0 and found.ticket.mask == wanted.mask
    assert found.ticket.mask.fingerprint == wanted.mask.fingerprint
    assert set(found.ticket.weights) == set(wanted.weights)
    assert all(same(found.ticket.weights[name], w) for name, w in wanted.weights.items())
    tiny.Net().load_state_dict(dict(found.ticket.weights))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
def test_types_shapes_and_tied_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    plain = torch.arange(12).reshape(3, 4).to(dtype)
    weights = {"w": plain.t(), "tied": plain, "scalar": torch.tensor(3).to(dtype), "none": torch.zeros(0, 2).to(dtype)}
    mask = ticketlab.Mask({"w": torch.rand(4, 3) > 0.5})
    save_ticket(tmp_path / "t", Ticket(mask, weights), {})
    found = ticketlab.load_ticket(tmp_path / "t").ticket
    assert found.mask == mask and all(same(found.weights[name], w) for name, w in weights.items())


def test_the_same_bytes_in_every_process(path: Path, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_ticket_file as t; t.save_ticket(sys.argv[1], t.ticket(), t.FACTS)"
    )
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-c", script, str(other)], check=True)
    assert other.read_bytes() == path.read_bytes()


def test_nothing_is_left_beside_the_file(path: Path) -> None:
    save_ticket(path, ticket(), {})
    assert [p.name for p in path.parent.iterdir()] == [path.name] and ticketlab.load_ticket(path).facts == {}


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"asked for the ticket file .*nothing, got no such file"):
        ticketlab.load_ticket(tmp_path / "nothing")
    with pytest.raises(InputError, match="got no such file"):
        ticketlab.load_ticket(tmp_path)


def test_truncated(path: Path) -> None:
    for content in cut_off(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match="asked for a ticket in"):
            ticketlab.load_ticket(path)


def test_flipped_bits(path: Path) -> None:
    """A flip anywhere is refused; only where JSON has two spellings of the same (\\u00e9, \\u00E9) may it be read."""
    content, wanted = path.read_bytes(), ticket()
    for position, changed in flipped(content):
        path.write_bytes(changed)
        try:
            found = ticketlab.load_ticket(path)
        except InputError as error:
            assert "asked for a ticket in" in str(error)
            continue
        assert found.facts == FACTS and found.ticket.mask == wanted.mask
        assert position < len(content) - sum(w.numel() * w.element_size() for w in wanted.weights.values())


def test_other_formats(tmp_path: Path) -> None:
    ticketlab.prune(tiny.Net(), "magnitude", 0.5).save(tmp_path / "mask")
    with pytest.raises(InputError, match=r"got format 'ticketlab-mask-1'; tickets say 'ticketlab-ticket-1'"):
        ticketlab.load_ticket(tmp_path / "mask")
    save_file(tiny.Net().state_dict(), tmp_path / "weights")
    with pytest.raises(InputError, match="got format None"):
        ticketlab.load_ticket(tmp_path / "weights")
    with pytest.raises(InputError, match="asked for a mask"):
        save_ticket(tmp_path / "ticket", ticket(), {})
        ticketlab.Mask.load(tmp_path / "ticket")


def _rename(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["other"] = tensors.pop("mask/last.weight")


def _add(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["other"] = torch.ones(1)


def _no_weights(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    del tensors["weights/first.weight"]


def _reshaped(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["weights/first.weight"] = tensors["weights/first.weight"].reshape(-1)


def _bits(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["mask/first.weight"] = torch.full_like(tensors["mask/first.weight"], 255)


FORGED: list[tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = [
    (_rename, "no 'mask/last.weight'"),
    (_add, "belong neither to the mask nor to the weights"),
    (_no_weights, "no 'first.weight'"),
    (_reshaped, "the mask of 'first.weight' has shape"),
    (_bits, "bits beyond its last weight"),
    (lambda header, tensors: header.update(at="2"), "the epoch is '2'"),
    (lambda header, tensors: header.update(at=-1.0), "the epoch is -1.0"),
    (lambda header, tensors: header.update(facts=[]), "are no object"),
    (lambda header, tensors: header.update(shapes=[["first.weight", [-1]]]), "shapes is damaged"),
    (lambda header, tensors: header.update(format="ticketlab-ticket-2"), "got format 'ticketlab-ticket-2'"),
    (lambda header, tensors: header.pop("fingerprint"), "no 'fingerprint'"),
]


@pytest.mark.parametrize(("forge", "message"), FORGED)
def test_files_with_a_right_checksum_and_wrong_contents(
    forge: Callable[[dict[str, Any], dict[str, Tensor]], Any], message: str, path: Path
) -> None:
    signed_again(path, forge)
    with pytest.raises(InputError, match="asked for a ticket in") as error:
        ticketlab.load_ticket(path)
    assert message in str(error.value)
