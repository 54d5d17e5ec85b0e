"""Compact tickets: bit-equal, as small as they should be, and refused where anything is not as it was written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_files import cut_off, flipped, signed_again
from torch import Tensor

import ticketlab
from ticketlab.errors import InputError
from ticketlab.export import frames
from ticketlab.export.compact import to_bytes
from ticketlab.export.sizes import dense_bytes, entropy_bytes
from ticketlab.models.registry import build
from ticketlab.program import Ticket
from ticketlab.ticket_file import TicketFile

from .made import FACTS, odd_ticket, same, ticket


def empty() -> TicketFile:
    """Nothing is kept."""
    weights = {name: torch.zeros_like(w) for name, w in ticket().ticket.weights.items()}
    mask = ticketlab.Mask({name: torch.zeros_like(kept) for name, kept in ticket().ticket.mask.items()})
    return TicketFile(Ticket(mask, weights), {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "small.safetensors"
    ticketlab.export_ticket(odd_ticket(), found)
    return found


def assert_same(found: TicketFile, wanted: TicketFile) -> None:
    assert found.facts == wanted.facts and found.ticket.at == wanted.ticket.at
    assert found.ticket.mask == wanted.ticket.mask
    assert found.ticket.mask.fingerprint == wanted.ticket.mask.fingerprint
    assert list(found.ticket.weights) == list(wanted.ticket.weights)
    assert [n for n, w in wanted.ticket.weights.items() if not same(found.ticket.weights[n], w)] == []


@pytest.mark.parametrize("made", [ticket, odd_ticket, lambda: ticket(0.0), empty])
def test_bit_equal(made: Callable[[], TicketFile], tmp_path: Path) -> None:
    wanted = made()
    said = ticketlab.export_ticket(wanted, tmp_path / "t")
    assert_same(ticketlab.load_ticket(tmp_path / "t"), wanted)
    assert said["bytes"] == (tmp_path / "t").stat().st_size
    # What was loaded is written as the same bytes again.
    assert to_bytes(ticketlab.load_ticket(tmp_path / "t")) == (tmp_path / "t").read_bytes()


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool, torch.complex64, torch.uint16]
)
def test_types_and_shapes(dtype: torch.dtype, tmp_path: Path) -> None:
    plain = torch.arange(12).reshape(3, 4).to(dtype)
    weights = {"w": plain.t(), "tied": plain, "scalar": torch.tensor(3).to(dtype), "none": torch.zeros(0, 2).to(dtype)}
    masks = {"none": torch.zeros(0, 2, dtype=torch.bool), "w": torch.rand(4, 3) > 0.5}
    wanted = TicketFile(Ticket(ticketlab.Mask(masks, {"seed": 1}), weights), {})
    ticketlab.export_ticket(wanted, tmp_path / "t")
    assert_same(ticketlab.load_ticket(tmp_path / "t"), wanted)


def test_a_tied_weight_costs_nothing(tmp_path: Path) -> None:
    file = ticket()
    draw = torch.rand(100, 100)
    once = TicketFile(Ticket(file.ticket.mask, {**file.ticket.weights, "z": draw}), {})
    twice = TicketFile(Ticket(file.ticket.mask, {**once.ticket.weights, "tied": draw.clone()}), {})
    assert len(to_bytes(twice)) < len(to_bytes(once)) + 100


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.98])
def test_within_a_tenth_of_the_entropy_bound(sparsity: float) -> None:
    """Of random positions and random bits: no pattern helps, so the bound is one."""
    draw = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (400, 500), generator=draw)
    kept = torch.rand(400, 500, generator=draw) >= sparsity
    weight = torch.where(kept, bits, 0).to(torch.int32).view(torch.float32)
    made = Ticket(ticketlab.Mask({"w": kept}), {"w": weight})
    density = int(kept.sum()) / kept.numel()
    entropy = -density * np.log2(density) - (1 - density) * np.log2(1 - density)
    bound = kept.numel() * (entropy + 32 * density) / 8
    assert entropy_bytes(made) == pytest.approx(bound)
    assert bound < len(to_bytes(TicketFile(made, {}))) < 1.1 * bound


@pytest.mark.parametrize(("sparsity", "at_least"), [(0.9, 7.6), (0.95, 14), (0.98, 31)])
def test_a_vgg_of_uniform_density(sparsity: float, at_least: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build("vgg11", 10, (3, 32, 32))
        mask = ticketlab.prune(model, "random", sparsity, budget="uniform")
    made = Ticket(mask, mask.apply_(model).state_dict())
    assert dense_bytes(made) / len(to_bytes(TicketFile(made, FACTS))) >= at_least


def test_truncated(path: Path) -> None:
    for content in cut_off(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(InputError, match="asked for a ticket in"):
            ticketlab.load_ticket(path)


def test_flipped_bits(path: Path) -> None:
    content, header = path.read_bytes(), int.from_bytes(path.read_bytes()[:8], "little")
    for position, changed in flipped(content):
        path.write_bytes(changed)
        try:
            found = ticketlab.load_ticket(path)
        except InputError as error:
            assert "asked for a ticket in" in str(error)
            continue
        # JSON has two spellings of some characters (\\u00e9, \\u00E9): only there, and it is the same ticket.
        assert position < header
        assert_same(found, odd_ticket())


def forged(path: Path, forge: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> str:
    """The refusal of a file that someone made who knows how checksums are made."""
    signed_again(path, forge)
    with pytest.raises(InputError, match="asked for a ticket in") as error:
        ticketlab.load_ticket(path)
    return str(error.value)


def _packed(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(frames.compressed(content), np.uint8).copy())


def _index(change: Callable[[list[Any], list[str]], object]) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    def forge(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        rows, covered = json.loads(frames.opened(tensors["index"].numpy().tobytes(), header["sizes"]["index"]))
        change(rows, covered)
        content = json.dumps([rows, covered]).encode()
        tensors["index"], header["sizes"]["index"] = _packed(content), len(content)

    return forge


def _row(name: str, at: int, value: Any) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    return _index(lambda rows, covered: next(r for r in rows if r[0] == name).__setitem__(at, value))


def _values(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    content = bytearray(frames.opened(tensors["values"].numpy().tobytes(), header["sizes"]["values"]))
    content[10] ^= 1
    tensors["values"] = _packed(bytes(content))


FORGED: list[tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = [
    (_values, "does not hold the ticket that was written"),
    (lambda h, t: t.update(other=torch.ones(1)), "other tensors than an index"),
    (lambda h, t: t.pop("gaps"), "other tensors than an index"),
    (lambda h, t: t.update(gaps=torch.zeros(3, dtype=torch.uint8)), "a compressed part is damaged"),
    (lambda h, t: t.update(gaps=_packed(b"\0" * 10**6)), "says 1000000 bytes, the index"),
    (lambda h, t: h["sizes"].update(index=2**40), "the index has 1099511627776 bytes"),
    (lambda h, t: h["sizes"].update(index=True), "the index has True bytes"),
    (lambda h, t: h.update(at="2"), "the epoch is '2'"),
    (lambda h, t: h.update(facts=[]), "are no object"),
    (lambda h, t: h.update(contents="0"), "does not hold the ticket"),
    (lambda h, t: h.pop("fingerprint"), "no 'fingerprint'"),
    (_row("first.weight", 1, "int32"), "does not hold the ticket"),
    (_row("first.weight", 1, "float4"), "no 'float4'"),
    (_row("first.weight", 2, [2**31, 2**31]), "would take"),
    (_row("first.weight", 2, [-1]), "says -1 where a number"),
    (_row("first.weight", 2, [36, 1, 2]), "a compressed part|does not hold|coded positions"),
    (_row("first.weight", 3, 10**9), "says 1000000000 where a number"),
    (_row("first.weight", 3, True), "says True where a number"),
    (_row("first.weight", 5, 1), "compressed part says"),
    (_row("tied.weight", 3, "tied.weight"), "cannot be like"),
    (_row("tied.weight", 3, "first.weight"), "cannot be like"),
    (_row("tied.weight", 3, "nothing"), "no 'nothing'"),
    (_index(lambda rows, covered: rows.append(rows[0])), "listed twice"),
    (_index(lambda rows, covered: covered.pop()), "covers other tensors"),
    (_index(lambda rows, covered: covered.append("last.bias")), "covers other tensors"),
    (_index(lambda rows, covered: rows.append(["huge", "float32", [2**40], 0, 0, 0, 0])), "would take"),
]


@pytest.mark.parametrize(("forge", "said"), FORGED, ids=[said for _, said in FORGED])
def test_right_checksum_and_wrong_contents(
    forge: Callable[[dict[str, Any], dict[str, Tensor]], None], said: str, path: Path
) -> None:
    message = forged(path, forge)
    assert any(part in message for part in said.split("|")), message


def test_without_zstandard(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match="pip install zstandard"):
        ticketlab.load_ticket(path)
    with pytest.raises(InputError, match="pip install zstandard"):
        ticketlab.export_ticket(ticket(), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_tickets_that_no_file_can_hold(tmp_path: Path) -> None:
    mask = ticketlab.Mask({"w": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(InputError, match=r"mask of 'w' and no such weight"):
        ticketlab.export_ticket(Ticket(mask, {}), tmp_path / "t")
    with pytest.raises(InputError, match=r"mask of shape \(2,\) for weights of \(3,\)"):
        ticketlab.export_ticket(Ticket(mask, {"w": torch.ones(3)}), tmp_path / "t")
    with pytest.raises(InputError, match=r"torch.complex128, which no compact file holds"):
        ticketlab.export_ticket(Ticket(mask, {"w": torch.ones(2, dtype=torch.complex128)}), tmp_path / "t")
    assert list(tmp_path.iterdir()) == []
