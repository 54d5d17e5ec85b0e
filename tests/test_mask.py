"""Mask: a value with names, counts, overlap and a file format that believes nothing it reads."""

from __future__ import annotations

import copy
import json
import os
import pickle
import stat
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from zoo import ZOO

import ticketlab
from ticketlab import InputError, Mask
from ticketlab.packing import pack, unpack

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def a_mask() -> Mask:
    """Sizes that are and are not multiples of eight, a layer without weights left, one of no dimensions."""
    draw = torch.Generator().manual_seed(0)
    tensors = {
        "first.weight": torch.rand(3, 5, generator=draw) < 0.5,
        "second.weight": torch.rand(2, 4, 3, 3, generator=draw) < 0.2,
        "empty.weight": torch.zeros(8, dtype=torch.bool),
        "scalar": torch.tensor(True),
    }
    return Mask(tensors, {"method": "snip", "seed": 3, "options": {"accumulate": "gradient"}, "sparsity": 0.5})


def test_counts() -> None:
    mask = Mask({"b": torch.tensor([[True, False], [True, True]]), "a": torch.zeros(2, dtype=torch.bool)})
    assert list(mask) == ["b", "a"] and len(mask) == 2
    assert (mask.kept, mask.total, mask.sparsity) == (3, 6, 0.5)
    assert mask.counts() == {"b": (3, 4), "a": (0, 2)} and list(mask.counts()) == ["b", "a"]
    assert mask.empty_layers == ["a"]
    assert repr(mask) == "Mask(3 of 6 weights kept in 2 layers, sparsity 0.5000)"
    assert (Mask({}).kept, Mask({}).total, Mask({}).sparsity) == (0, 0, 0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64])
def test_only_bool_tensors(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=r"needs bool tensors, got .* for 'a'"):
        Mask({"a": torch.ones(3, dtype=dtype)})


def test_a_mask_owns_its_tensors() -> None:
    tensors, made = {"a": torch.ones(4, dtype=torch.bool)}, {"seed": 1}
    mask = Mask(tensors, made)
    tensors["a"][0] = False
    tensors["b"] = torch.ones(1, dtype=torch.bool)
    made["seed"] = 2
    assert mask.kept == 4 and list(mask) == ["a"] and mask.fingerprint == {"seed": 1}


def test_equality_and_hash() -> None:
    one, same = a_mask(), Mask(dict(a_mask()), {"another": "maker"})
    assert one == same and hash(one) == hash(same) and one.digest() == same.digest()
    flipped = {n: t.clone() for n, t in one.items()}
    flipped["first.weight"][0, 0] ^= True
    reordered = dict(reversed(list(one.items())))
    reshaped = {**one, "first.weight": one["first.weight"].reshape(5, 3)}
    renamed = {("other" if n == "scalar" else n): t for n, t in one.items()}
    for changed in (flipped, reordered, reshaped, renamed, {}):
        other = Mask(changed)
        assert other != one and other.digest() != one.digest()
    assert one != dict(one) and one != "mask"


def test_copies_and_pickles() -> None:
    mask = a_mask()
    for twin in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert twin == mask and twin.fingerprint == mask.fingerprint


def test_overlap() -> None:
    one = Mask({"a": torch.tensor([1, 1, 1, 0]).bool(), "b": torch.tensor([0, 0]).bool()})
    other = Mask({"a": torch.tensor([0, 1, 0, 1]).bool(), "b": torch.tensor([0, 0]).bool()})
    assert one.overlap(other) == other.overlap(one) == 0.5
    assert one.overlap(one) == 1.0
    nothing = Mask({n: torch.zeros_like(t) for n, t in one.items()})
    assert one.overlap(nothing) == nothing.overlap(nothing) == 1.0
    with pytest.raises(InputError, match="different weights"):
        one.overlap(Mask({"a": one["a"]}))
    with pytest.raises(InputError, match="different weights"):
        one.overlap(Mask({"a": torch.ones(2, 2).bool(), "b": one["b"]}))


@pytest.mark.parametrize("name", list(ZOO))
def test_apply(name: str) -> None:
    model, before = ZOO[name].model(), ZOO[name].model()
    mask = ticketlab.prune(model, "random", 0.5)
    assert mask.apply_(model) is model
    for (n, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        expected = q.detach().clone()
        if n in mask:
            expected[~mask[n]] = 0
        assert torch.equal(p.detach(), expected)
        assert n not in mask or int(torch.count_nonzero(p.detach()[~mask[n]])) == 0


def test_apply_to_what_is_not_finite() -> None:
    """Multiplying by zero would leave NaN."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[float("nan"), float("inf")]]))
    Mask({"weight": torch.zeros(1, 2).bool()}).apply_(model)
    assert model.weight.tolist() == [[0.0, 0.0]]


def test_apply_through_wrappers() -> None:
    model = ZOO["mlp"].model()
    bare = ticketlab.prune(model, "random", 0.5)
    wrapped = ticketlab.prune(nn.DataParallel(model), "random", 0.5)
    for mask in (bare, wrapped):
        for make in (lambda m: m, nn.DataParallel, lambda m: torch.compile(m, backend="eager")):
            fresh = ZOO["mlp"].model()
            mask.apply_(make(fresh))
            assert not bool(fresh[0].weight.detach()[~bare["0.weight"]].any())


def test_apply_to_another_model_changes_nothing() -> None:
    mask = ticketlab.prune(ZOO["mlp"].model(), "random", 0.5)
    for model, words in [(nn.Linear(3, 3), "no such parameter"), (nn.Sequential(nn.Linear(7, 9)), "shape|no such")]:
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(InputError, match=words):
            mask.apply_(model)
        assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_dense() -> None:
    mask = Mask.dense({"a": torch.zeros(2, 3), "b": torch.zeros(())})
    assert mask.kept == mask.total == 7 and mask["a"].shape == (2, 3)


# Files.

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(lambda n: n != "__metadata__")
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
masks = st.dictionaries(names, st.tuples(shapes, st.integers(0, 99)), max_size=5).map(
    lambda layers: Mask(
        {n: torch.rand(s, generator=torch.Generator().manual_seed(seed)) < 0.5 for n, (s, seed) in layers.items()}
    )
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(masks, st.dictionaries(st.text(max_size=5), json_values, max_size=3))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path: Path, mask: Mask, fingerprint: dict[str, Any]) -> None:
    mask.fingerprint = fingerprint
    mask.save(tmp_path / "a" / "mask")
    loaded = Mask.load(str(tmp_path / "a" / "mask"))
    assert loaded == mask and list(loaded) == list(mask) and loaded.fingerprint == fingerprint
    assert os.listdir(tmp_path / "a") == ["mask"]


@given(st.lists(st.booleans(), max_size=40))
@settings(max_examples=100, deadline=None)
def test_packing(bits: list[bool]) -> None:
    tensor = torch.tensor(bits, dtype=torch.bool)
    packed = pack(tensor)
    assert packed.dtype == torch.uint8 and packed.numel() == (len(bits) + 7) // 8
    assert torch.equal(unpack(packed, (len(bits),)), tensor)
    assert [int(packed[i // 8]) >> (7 - i % 8) & 1 for i in range(len(bits))] == bits


def test_a_bit_a_weight(tmp_path: Path) -> None:
    Mask({"a": torch.ones(1000, 80, dtype=torch.bool)}).save(tmp_path / "mask")
    assert (tmp_path / "mask").stat().st_size < 80_000 / 8 + 1000


def test_saving_replaces_and_has_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "mask"
    path.write_text("old")
    a_mask().save(path)
    assert Mask.load(path) == a_mask()
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_saving_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "mask", tmp_path):
        with pytest.raises(InputError, match="asked to write"):
            a_mask().save(path)
    assert sorted(os.listdir(tmp_path)) == ["file"]


def refused(path: Path, content: bytes) -> None:
    """A damaged file loads as a mask or is an ``InputError``; nothing else ever comes out."""
    path.write_bytes(content)
    try:
        mask = Mask.load(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        for tensor in mask.values():
            assert tensor.dtype == torch.bool and not bool((tensor.view(torch.uint8) > 1).any())


def whole(tmp_path: Path) -> bytes:
    a_mask().save(tmp_path / "whole")
    return (tmp_path / "whole").read_bytes()


@given(st.binary(max_size=200))
@example(b"")
@example(struct.pack("<Q", 2**63) + b"{}")
@example(struct.pack("<Q", 2) + b"{}")
@example(struct.pack("<Q", 50_000) + b"[" * 50_000)
@FUZZ
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mask"
    path.write_bytes(content)
    with pytest.raises(InputError):
        Mask.load(path)


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=3))
@FUZZ
def test_flipped_bits(tmp_path: Path, flips: list[tuple[float, int]]) -> None:
    content = bytearray(whole(tmp_path))
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    refused(tmp_path / "mask", bytes(content))


@given(st.data())
@FUZZ
def test_replaced_pieces_of_the_header(tmp_path: Path, data: st.DataObject) -> None:
    content = whole(tmp_path)
    size = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + size].decode()
    words = ["U8", "shape", "data_offsets", "[", "]", "{", "}", '"', ",", "1", "format", "shapes", "fingerprint"]
    old = data.draw(st.sampled_from(words))
    new = data.draw(
        st.sampled_from(
            [
                "BOOL",
                "I8",
                "F64",
                "F8_E4M3",
                "BF16",
                "C64",
                "F4",
                "F6_E2M3",
                "I4",
                "X",
                "",
                "null",
                "-1",
                "9" * 30,
                "[]",
            ]
        )
    )
    count = data.draw(st.integers(1, 3))
    changed = header.replace(old, new, count).encode()
    refused(tmp_path / "mask", struct.pack("<Q", len(changed)) + changed + content[8 + size :])


def test_every_truncation(tmp_path: Path) -> None:
    content = whole(tmp_path)
    for length in range(len(content)):
        path = tmp_path / "mask"
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            Mask.load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(InputError):
        Mask.load(path)


def file_of(tensors: dict[str, Tensor], **header: Any) -> bytes:
    """A safetensors file with our header, and what a test changes in it."""
    entries = {
        "format": "ticketlab-mask-1",
        "shapes": [[n, [t.numel() * 8]] for n, t in tensors.items()],
        "fingerprint": {},
    } | header
    kept = {k: v if isinstance(v, str) else json.dumps(v) for k, v in entries.items() if v is not None}
    return to_bytes(tensors, kept)


BITS = {"a": torch.tensor([255, 7], dtype=torch.uint8)}


def test_the_file_that_the_others_damage(tmp_path: Path) -> None:
    (tmp_path / "mask").write_bytes(file_of(BITS))
    assert Mask.load(tmp_path / "mask").counts() == {"a": (11, 16)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (to_bytes({"weight": torch.randn(3, 3)}), "format None; masks say 'ticketlab-mask-1'"),
        (to_bytes({}), "format None"),
        (file_of(BITS, format="ticketlab-mask-2"), "format 'ticketlab-mask-2'"),
        (file_of(BITS, shapes=None), "cannot be read"),
        (file_of(BITS, shapes="[["), "cannot be read"),
        (file_of(BITS, shapes=[]), "differ"),
        (file_of(BITS, shapes=[["b", [16]]]), "differ"),
        (file_of(BITS, shapes=[["a", [16]], ["a", [16]]]), "twice"),
        (file_of(BITS, shapes=[["a", [17]]]), "needs 17 bits"),
        (file_of(BITS, shapes=[["a", [8]]]), "needs 8 bits"),
        (file_of(BITS, shapes=[["a", [2**39, 2**39, 2**39]]]), "needs"),
        (file_of(BITS, shapes=[["a", [2**70]]]), "damaged"),
        (file_of(BITS, shapes=[["a", [-16]]]), "damaged"),
        (file_of(BITS, shapes=[["a", [16.0]]]), "damaged"),
        (file_of(BITS, shapes=[["a", [True, 16]]]), "damaged"),
        (file_of(BITS, shapes=[["a", "16"]]), "damaged"),
        (file_of(BITS, shapes=[["a", 16]]), "cannot be read"),
        (file_of(BITS, shapes=[["a"]]), "cannot be read"),
        (file_of(BITS, shapes={"a": [16]}), "cannot be read"),
        (file_of(BITS, shapes=[[["a"], [16]]]), "damaged"),
        (file_of(BITS, shapes="9" * 5000), "cannot be read"),
        (file_of(BITS, shapes="[" * 100_000), "cannot be read"),
        (file_of(BITS, shapes=[["a", [13]]]), "cannot be read|beyond"),
        (file_of({"a": torch.tensor([255, 7]).char()}), "int8"),
        (file_of({"a": torch.ones(2, 1, dtype=torch.uint8)}), "needs 16 bits"),
        (file_of(BITS, fingerprint="[]"), "not an object"),
        (file_of(BITS, fingerprint="{"), "cannot be read"),
        (b"PK\x03\x04", "cannot be read"),
    ],
)
def test_files_that_are_no_masks(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "mask"
    path.write_bytes(content)
    if "beyond" in words:
        # 13 of 16 bits: the last three must be zero, and are not.
        words = "beyond its last weight"
    with pytest.raises(InputError, match=words) as caught:
        Mask.load(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, Path("\0")):
        with pytest.raises(InputError, match="no such file"):
            Mask.load(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    a_mask().save(tmp_path / "mask")
    (tmp_path / "mask").chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        Mask.load(tmp_path / "mask")
