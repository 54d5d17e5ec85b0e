"""Budgets: exact totals always, the papers' worked numbers, and Su et al.'s own counts with compat="su2020"."""

from __future__ import annotations

import functools
import itertools
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ticketlab import InputError, Mask, budget
from ticketlab.budget import DECAYS, FORMS, largest_remainder
from ticketlab.models.registry import build
from ticketlab.parameters import prunable
from ticketlab.smart_ratio import targets

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "smart_ratio.json").read_text())
ABLATIONS = json.loads((FOLDER / "smart_ratio_ablations.json").read_text())
NETS = {"resnet32-su2020": "resnet", "vgg19": "vgg"}

# Card A4's worked example: convolutions of 100, 200 and 400 weights and a linear layer of 50.
WORKED = {"a": (100, 1, 1), "b": (200, 1, 1), "c": (400, 1, 1), "fc": (50, 1)}


def golden_net(key: str) -> dict[str, tuple[int, ...]]:
    case = GOLDEN[key]
    shapes = {name: (size, 1, 1) for name, size in zip(case["names"], case["sizes"], strict=True)}
    return {**shapes, case["names"][-1]: (case["sizes"][-1], 1)}


@functools.cache
def net(name: str) -> dict[str, tuple[int, ...]]:
    return {
        n.removesuffix(".weight"): tuple(weight.shape) for n, weight in prunable(build(name, 10, (3, 32, 32))).items()
    }


@pytest.mark.parametrize("key", list(GOLDEN))
def test_official_counts(key: str) -> None:
    arch, _, sparsity = key.split("/")
    case = GOLDEN[key]
    shapes, form = golden_net(key), "resnet" if arch.startswith("resnet") else "vgg"
    theirs = budget.smart(shapes, float(sparsity), form=form, compat="su2020")
    assert list(theirs.values()) == case["kept"]
    ours = budget.smart(shapes, float(sparsity), form=form)
    assert sum(ours.values()) == round((1 - float(sparsity)) * sum(case["sizes"]))
    # The same rule but for rounding, surplus and their single precision: within a percent of a layer and a weight.
    assert all(abs(ours[n] - theirs[n]) <= 1 + 0.01 * size for n, size in zip(shapes, case["sizes"], strict=True))


@pytest.mark.parametrize("key", list(ABLATIONS))
def test_official_counts_of_the_ablations(key: str) -> None:
    net_key, _, decay = key.rpartition("/")
    sparsity, form = float(net_key.split("/")[-1]), "resnet" if key.startswith("resnet") else "vgg"
    theirs = budget.smart(golden_net(net_key), sparsity, form=form, decay=decay, compat="su2020")
    assert list(theirs.values()) == ABLATIONS[key]


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.98])
def test_the_original_ascending_ratio_disconnects_the_input(sparsity: float) -> None:
    """Chance accuracy by construction, which says nothing of ratios; exact counts need a floor as well."""
    shapes = net("resnet32-su2020")
    theirs = budget.smart(shapes, sparsity, decay="ascending", compat="su2020")
    assert [n for n, kept in theirs.items() if kept == 0] == ["conv1"]
    assert budget.smart(shapes, sparsity, decay="ascending")["conv1"] == 0
    ours = budget.smart(shapes, sparsity, decay="ascending", floor=1)
    valid(ours, shapes, sparsity)
    assert ours["conv1"] == 32 and ours["fc"] == 384 and all(ours[n] >= s[0] for n, s in shapes.items())


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.98])
def test_the_original_ascending_ratio_descends_in_the_form_vgg(sparsity: float) -> None:
    """They divide l^2 + l by l^2 too: 1 + 1/l is nearly uniform. The mirror image of their ratio ascends."""
    shapes, options = net("vgg19"), {"form": "vgg", "decay": "ascending"}
    sizes, convs = sizes_of(shapes), list(shapes)[:-1]
    theirs = budget.smart(shapes, sparsity, compat="su2020", **options)
    ratios = [theirs[n] / sizes[n] for n in convs]
    assert all(a > b for a, b in itertools.pairwise(ratios)) and ratios[0] < 2 * ratios[-1]
    even = [r / (1 + 1 / depth) for depth, r in enumerate(ratios, 1)]
    assert max(even) - min(even) < 1 / sizes[convs[0]]
    ours = budget.smart(shapes, sparsity, **options)
    ratios = [ours[n] / sizes[n] for n in convs]
    assert ratios[-1] > 1000 * ratios[1] and all(a < b for a, b in itertools.pairwise(ratios))


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize("sparsity", [0.9, 0.98])
@pytest.mark.parametrize("linear_keep", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("decay", DECAYS)
def test_the_linear_layer_keeps_what_it_is_told(name: str, sparsity: float, linear_keep: float, decay: str) -> None:
    shapes = net(name)
    counts = budget.smart(shapes, sparsity, form=NETS[name], linear_keep=linear_keep, decay=decay)
    valid(counts, shapes, sparsity)
    last = list(shapes)[-1]
    assert counts[last] == round(linear_keep * sizes_of(shapes)[last])


def test_the_linear_layer_can_be_too_much() -> None:
    with pytest.raises(InputError, match=r"keep 186 of 1855584 .* 'fc' alone keeps 1280 \(linear_keep=1\)"):
        budget.smart(net("resnet32-su2020"), 0.9999, linear_keep=1.0)


@pytest.mark.parametrize(
    ("options", "sparsity", "kept"),
    [
        ({}, 0.8, [39, 47, 47, 15]),
        ({}, 0.2, [100, 200, 284, 15]),
        ({"decay": "ascending"}, 0.2, [18, 113, 400, 15]),
        ({"decay": "linear"}, 0.8, [30, 45, 60, 15]),
        ({"decay": "cubic"}, 0.8, [57, 48, 28, 15]),
        ({"decay": "uniform"}, 0.8, [19, 38, 77, 15]),
        ({"form": "vgg"}, 0.8, [94, 28, 12, 15]),
    ],
)
def test_worked_numbers(options: dict[str, str], sparsity: float, kept: list[int]) -> None:
    assert list(budget.smart(WORKED, sparsity, compat="su2020", **options).values()) == kept
    ours = budget.smart(WORKED, sparsity, **options)
    assert sum(ours.values()) == round((1 - sparsity) * 750) and ours["fc"] == 15
    if options.get("decay") != "ascending":
        assert all(abs(one - other) <= 1 for one, other in zip(ours.values(), kept, strict=True))


def test_surplus_comes_back_to_earlier_layers() -> None:
    """Their code asks for 600 and gets 546, as the last layer's surplus is lost; here it goes back."""
    ours = budget.smart(WORKED, 0.2, decay="ascending")
    # 18.87, 113.23 and 452.90 before: 52.90 go from the last layer to the one before it, none to the first.
    assert ours == {"a": 19, "b": 166, "c": 400, "fc": 15}


@pytest.mark.parametrize(
    ("options", "sparsity", "kept"),
    [
        # 585 for three layers is 195 each; the first has 100 and the others share its 95. Then 135 is 45 each.
        ({"decay": "balanced"}, 0.2, [100, 200, 285, 15]),
        ({"decay": "balanced"}, 0.8, [45, 45, 45, 15]),
        ({"decay": "balanced"}, 0.5, [100, 130, 130, 15]),
        ({"decay": "uniform"}, 0.5, [51, 103, 206, 15]),
        # (l^2 + l) / k^2 times the size is 12.5, 133.3 and 1200, which share 135.
        ({"decay": "ascending", "form": "vgg"}, 0.8, [1, 14, 120, 15]),
    ],
)
def test_corrected_numbers_by_hand(options: dict[str, str], sparsity: float, kept: list[int]) -> None:
    assert list(budget.smart(WORKED, sparsity, **options).values()) == kept


FLOORED = {"a": (10, 10, 1), "b": (20, 10, 1), "c": (40, 10, 1), "fc": (5, 10)}


@pytest.mark.parametrize(
    ("floor", "sparsity", "linear_keep", "kept"),
    [
        (0, 0.8, 0.3, [4, 26, 105, 15]),
        # The first layer is raised from 4.4 to 10, and the others share 125 as 1 to 4.
        (1, 0.8, 0.3, [10, 25, 100, 15]),
        # 6.8, 40.6 and 162.6: the first is raised to 20, which takes the second from 40.6 to 38, so to its own floor.
        (2, 0.7, 0.3, [20, 40, 150, 15]),
        (1, 0.8, 0.0, [10, 27, 108, 5]),
        # A floor of more than a layer has is all of it.
        (100, 0.0, 0.3, [100, 200, 400, 50]),
    ],
)
def test_a_floor_by_hand(floor: int, sparsity: float, linear_keep: float, kept: list[int]) -> None:
    counts = budget.smart(FLOORED, sparsity, decay="ascending", floor=floor, linear_keep=linear_keep)
    assert list(counts.values()) == kept


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"floor": 2}, r"keep 150 of 750 weights, but floor=2 needs 155, 15 of them in the linear layer 'fc'"),
        ({"floor": -1}, "asked for floor -1"),
        ({"floor": 0.5}, r"asked for floor 0\.5"),
        ({"floor": 1, "compat": "su2020"}, "asked for floor=1 with compat='su2020'"),
        ({"decay": "balanced", "compat": "su2020"}, "asked for decay='balanced' with compat='su2020'"),
        ({"decay": "balance"}, "Did you mean 'balanced'"),
    ],
)
def test_refused_options(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        budget.smart(FLOORED, 0.8, **options)


layer = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 16), st.integers(1, 16), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 16), st.integers(1, 8), st.integers(1, 5)),
)
networks = st.lists(layer, min_size=1, max_size=8).map(lambda shapes: {f"layer{i}": s for i, s in enumerate(shapes)})
sparsities = st.one_of(st.floats(0, 0.9999), st.sampled_from([0.0, 0.1, 0.5, 0.8, 0.9, 0.98, 1 - 2**-53]))


def sizes_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    return {name: int(torch.Size(s).numel()) for name, s in shapes.items()}


def valid(counts: dict[str, int], shapes: dict[str, tuple[int, ...]], sparsity: float) -> None:
    sizes = sizes_of(shapes)
    assert list(counts) == list(shapes)
    assert sum(counts.values()) == round((1 - sparsity) * sum(sizes.values()))
    assert all(type(counts[n]) is int and 0 <= counts[n] <= sizes[n] for n in shapes)


@given(networks, sparsities, st.sampled_from(DECAYS), st.sampled_from(FORMS), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_smart_is_exact_or_says_why(
    shapes: dict[str, tuple[int, ...]], sparsity: float, decay: str, form: str, linear_keep: float
) -> None:
    sizes = sizes_of(shapes)
    linear = [n for n, s in shapes.items() if len(s) == 2][-1:]
    fixed = sum(round(linear_keep * sizes[n]) for n in linear)
    kept = round((1 - sparsity) * sum(sizes.values()))
    if fixed > kept:
        with pytest.raises(InputError, match="alone keeps"):
            budget.smart(shapes, sparsity, form=form, decay=decay, linear_keep=linear_keep)
        return
    counts = budget.smart(shapes, sparsity, form=form, decay=decay, linear_keep=linear_keep)
    valid(counts, shapes, sparsity)
    if kept - fixed <= sum(sizes.values()) - sum(sizes[n] for n in linear):
        assert all(counts[n] == fixed for n in linear)


@given(networks, sparsities, st.sampled_from(DECAYS), st.sampled_from(FORMS), st.floats(0, 1), st.integers(0, 4))
@settings(max_examples=500, deadline=None)
def test_floors_are_kept_or_cannot_be(
    shapes: dict[str, tuple[int, ...]], sparsity: float, decay: str, form: str, linear_keep: float, floor: int
) -> None:
    sizes, options = sizes_of(shapes), {"form": form, "decay": decay, "linear_keep": linear_keep}
    least = {n: min(floor * s[0], sizes[n]) for n, s in shapes.items()}
    fixed = {
        n: max(round(linear_keep * sizes[n]), least[n]) for n in [n for n, s in shapes.items() if len(s) == 2][-1:]
    }
    if sum({**least, **fixed}.values()) > round((1 - sparsity) * sum(sizes.values())):
        with pytest.raises(InputError, match=f"alone keeps|floor={floor} needs"):
            budget.smart(shapes, sparsity, floor=floor, **options)
        return
    counts = budget.smart(shapes, sparsity, floor=floor, **options)
    valid(counts, shapes, sparsity)
    assert all(counts[n] >= least[n] for n in shapes)
    without = budget.smart(shapes, sparsity, **options)
    if all(without[n] > least[n] for n in shapes):
        # A floor that binds nowhere changes nothing.
        assert counts == without
    # The layers between their floors and their sizes share in proportion, but for surplus and rounding.
    if any(counts[n] == sizes[n] for n in shapes):
        return
    weights = {n: targets(shapes, sum(counts.values()), form, decay, 0.0, 0)[n] for n in shapes if n not in fixed}
    free = {n: w for n, w in weights.items() if counts[n] > least[n] + 1 and 0 < w < sizes[n]}
    if all(w < sizes[n] for n, w in weights.items()) and free:
        scales = [((counts[n] - 1) / w, (counts[n] + 1) / w) for n, w in free.items()]
        assert max(low for low, _ in scales) <= min(high for _, high in scales)


convolutions = networks.map(lambda net: {n: s for n, s in net.items() if len(s) != 2}).filter(bool)


@given(convolutions, sparsities, st.sampled_from(DECAYS[:4]), st.sampled_from(FORMS))
@settings(max_examples=300, deadline=None)
def test_smart_falls_or_rises_with_depth(
    shapes: dict[str, tuple[int, ...]], sparsity: float, decay: str, form: str
) -> None:
    """Keep ratios never turn from one layer to the next, full ones included, but for one weight of rounding."""
    counts, sizes = budget.smart(shapes, sparsity, decay=decay, form=form), sizes_of(shapes)
    order = list(shapes)[::-1] if decay == "ascending" else list(shapes)
    low = [(counts[n] - 1) / sizes[n] for n in order]
    high = [(counts[n] + 1) / sizes[n] for n in order]
    assert all(later <= earlier + 1e-12 for earlier, later in zip(high, low[1:], strict=False))


@given(convolutions, sparsities, st.sampled_from(FORMS))
@settings(max_examples=200, deadline=None)
def test_ascending_is_the_mirror_image(shapes: dict[str, tuple[int, ...]], sparsity: float, form: str) -> None:
    kept = round((1 - sparsity) * sum(sizes_of(shapes).values()))
    mirror = dict(reversed(shapes.items()))
    assert targets(shapes, kept, form, "ascending", 0.3, 0) == targets(mirror, kept, form, "quadratic", 0.3, 0)


@given(convolutions, sparsities, st.sampled_from(FORMS))
@settings(max_examples=200, deadline=None)
def test_balanced_and_uniform_are_even(shapes: dict[str, tuple[int, ...]], sparsity: float, form: str) -> None:
    sizes = sizes_of(shapes)
    balanced = budget.smart(shapes, sparsity, form=form, decay="balanced")
    open_layers = [kept for n, kept in balanced.items() if kept < sizes[n]]
    assert not open_layers or max(balanced.values()) <= max(open_layers) + 1 <= min(open_layers) + 2
    assert budget.smart(shapes, sparsity, form=form, decay="uniform") == budget.uniform(shapes, sparsity)


@given(networks, sparsities)
@settings(max_examples=200, deadline=None)
def test_uniform_is_exact_and_even(shapes: dict[str, tuple[int, ...]], sparsity: float) -> None:
    counts, sizes = budget.uniform(shapes, sparsity), sizes_of(shapes)
    valid(counts, shapes, sparsity)
    share = Fraction(sum(counts.values()), sum(sizes.values()))
    assert all(abs(counts[n] - share * sizes[n]) < 1 for n in shapes)


@given(networks, sparsities)
@settings(max_examples=300, deadline=None)
def test_erk_is_exact(shapes: dict[str, tuple[int, ...]], sparsity: float) -> None:
    sizes = sizes_of(shapes)
    counts = budget.erk(shapes, sparsity)
    valid(counts, shapes, sparsity)
    # Proportional to sum(shape) / prod(shape) among the layers that are not full.
    raw = {n: sum(s) / sizes[n] for n, s in shapes.items()}
    scale = {n: counts[n] / (raw[n] * sizes[n]) for n in shapes if counts[n] < sizes[n]}
    slack = {n: 1 / (raw[n] * sizes[n]) for n in scale}
    for a in scale:
        for b in scale:
            assert abs(scale[a] - scale[b]) <= slack[a] + slack[b] + 1e-9


CARD_A12 = {"a": (16, 3, 3, 3), "b": (16, 16, 3, 3), "c": (10, 64)}


@pytest.mark.parametrize(
    ("sparsity", "densities"), [(0.9, [0.14261, 0.04064, 0.28493]), (0.5, [0.96267, 0.27436, 1.0])]
)
def test_erk_worked_numbers(sparsity: float, densities: list[float]) -> None:
    counts, sizes = budget.erk(CARD_A12, sparsity), sizes_of(CARD_A12)
    assert sum(counts.values()) == round((1 - sparsity) * 3376)
    for name, density in zip(CARD_A12, densities, strict=True):
        assert abs(counts[name] - density * sizes[name]) < 1


def test_erk_worked_counts() -> None:
    # 61.61 + 93.64 + 182.35, where the total of 337.6 rounds up.
    assert budget.erk(CARD_A12, 0.9) == {"a": 62, "b": 94, "c": 182}


def test_erk_with_less_than_the_small_layers_have() -> None:
    """Depthwise layers are tiny and want to be dense: they get their share of what there is, never more."""
    shapes = {"depthwise": (64, 1, 3, 3), "pointwise": (64, 64, 1, 1)}
    assert budget.erk(shapes, 1 - 300 / 4672) == {"depthwise": 106, "pointwise": 194}
    # From 1631 on the share of the depthwise layer is more than it has.
    assert budget.erk(shapes, 1 - 1600 / 4672) == {"depthwise": 565, "pointwise": 1035}
    assert budget.erk(shapes, 1 - 3000 / 4672) == {"depthwise": 576, "pointwise": 2424}


def test_erk_shares_out_what_full_layers_cannot_take() -> None:
    """Two small layers are full, one only after the other was; the rest is shared in proportion."""
    shapes = {"tiny": (2, 2), "small": (4, 4), "a": (20, 20), "b": (40, 40)}
    # Proportional to rows + columns: 4, 8, 40, 80 of 200 are 6.06, 12.12, 60.6, 121.2 and tiny has only 4.
    assert budget.erk(shapes, 1 - 200 / 2020) == {"tiny": 4, "small": 12, "a": 61, "b": 123}
    assert budget.erk(shapes, 1 - 400 / 2020) == {"tiny": 4, "small": 16, "a": 127, "b": 253}


@pytest.mark.parametrize("function", [budget.uniform, budget.erk, budget.smart])
def test_a_model_or_its_shapes(function: object) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 10))
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if n.endswith("weight")}
    assert function(model, 0.6) == function(shapes, 0.6)


def test_counts_of_a_mask() -> None:
    mask = Mask({"b": torch.tensor([True, False, True]), "a": torch.tensor([[False, False]])})
    assert list(budget.from_mask(mask).items()) == [("b", 2), ("a", 0)]


@given(st.lists(st.tuples(st.fractions(0, 30), st.integers(0, 30)), min_size=1, max_size=8), st.data())
@settings(max_examples=300, deadline=None)
def test_largest_remainder(layers: list[tuple[Fraction, int]], data: st.DataObject) -> None:
    target = {str(i): min(t, Fraction(size)) for i, (t, size) in enumerate(layers)}
    sizes = {str(i): size for i, (_, size) in enumerate(layers)}
    least = sum(int(t) for t in target.values())
    kept = data.draw(st.integers(least, max(least, sum(sizes.values()))))
    counts = largest_remainder(target, sizes, kept)
    assert sum(counts.values()) == kept
    assert all(int(target[n]) <= counts[n] <= sizes[n] for n in target)
    if kept - least <= sum(counts[n] < sizes[n] for n in target):
        # No layer was rounded up while another with a larger remainder was not.
        rest = {n: target[n] - int(target[n]) for n in target}
        up = [rest[n] for n in target if counts[n] > int(target[n])]
        down = [rest[n] for n in target if counts[n] == int(target[n]) and int(target[n]) < sizes[n]]
        assert not up or not down or min(up) >= max(down) or max(counts[n] - int(target[n]) for n in target) > 1


def test_largest_remainder_by_hand() -> None:
    target = {"a": Fraction(5, 2), "b": Fraction(7, 2), "c": Fraction(3, 4)}
    sizes = {"a": 10, "b": 10, "c": 1}
    assert largest_remainder(target, sizes, 6) == {"a": 2, "b": 3, "c": 1}
    # Equal remainders go to the earlier layer.
    assert largest_remainder(target, sizes, 7) == {"a": 3, "b": 3, "c": 1}
    with pytest.raises(InputError, match="22 weights, got layers with 21"):
        largest_remainder(target, sizes, 22)


@pytest.mark.parametrize(
    ("sparsity", "words"),
    [(90, r"Did you mean 0\.9\?"), (1, "outside"), (-0.5, "outside"), (float("nan"), "nan"), ("0.5", "0.5")],
)
def test_no_fraction_removed(sparsity: object, words: str) -> None:
    for function in (budget.uniform, budget.erk, budget.smart):
        with pytest.raises(InputError, match=words):
            function(WORKED, sparsity)


def test_the_total_is_rounded_not_cut() -> None:
    # int(750 * (1 - 0.8)) is 149.
    assert budget.total(750, 0.8) == 150
    assert budget.total(1, 0.4) == 1 and budget.total(10, 0.999) == 0
