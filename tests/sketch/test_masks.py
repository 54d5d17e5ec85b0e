"""Random masks: unbiased, drawn with the right frequencies, for any number of coordinates."""

from __future__ import annotations

import itertools
import resource

import pytest
import torch
from torch import Tensor

from ticketlab import InputError, seeding
from ticketlab.sketch import NormalisedWarning, inclusion, poisson_mask, sample_mask
from ticketlab.sketch.draws import Draws

SCORES = torch.tensor([5.0, 3, 1, 1, 0.5, 0.2], dtype=torch.float64)
P = SCORES / SCORES.sum()


def unbiased(masks: Tensor) -> bool:
    """The mean of every coordinate is 1, within 4.5 standard errors of its own."""
    return bool(((masks.mean(0) - 1).abs() < 4.5 * masks.std(0) / len(masks) ** 0.5 + 1e-12).all())


def exact_inclusion(p: list[float], s: int) -> list[float]:
    """How likely drawing one after the other without replacement takes each coordinate: over all orders."""
    found = [0.0] * len(p)
    for order in itertools.permutations(range(len(p)), s):
        chance, rest = 1.0, 1.0
        for i in order:
            chance, rest = chance * p[i] / rest, rest - p[i]
        for i in order:
            found[i] += chance
    return found


@pytest.mark.parametrize("s", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("replacement", [True, False])
def test_rescaled_masks_are_unbiased(s: int, replacement: bool) -> None:
    masks = sample_mask(P, s, seeding.generator(s), replacement=replacement, masks=100_000)
    assert masks.shape == (100_000, 6) and masks.dtype == torch.float64 and unbiased(masks)
    if replacement:
        counts = masks * s * P
        torch.testing.assert_close(counts, counts.round())
        assert bool((counts.round().sum(1) == s).all())
    else:
        assert bool(((masks > 0).sum(1) == s).all()) and bool(((masks == 0) | (masks >= 1)).all())


def test_drawing_with_replacement_has_the_moments_of_the_multinomial() -> None:
    counts = sample_mask(P, 4, seeding.generator(0), masks=200_000) * 4 * P
    want = 4 * (P.diag() - P[:, None] * P)
    torch.testing.assert_close(counts.mT.cov(), want, rtol=0, atol=0.01)


@pytest.mark.parametrize("s", [1, 2, 3, 5])
def test_without_replacement_keeps_with_the_exact_frequencies(s: int) -> None:
    masks = sample_mask(P, s, seeding.generator(0), replacement=False, rescale=False, masks=200_000)
    assert bool((masks.sum(1) == s).all()) and set(masks.unique().tolist()) <= {0.0, 1.0}
    want = torch.tensor(exact_inclusion(P.tolist(), s), dtype=torch.float64)
    assert bool(((masks.mean(0) - want).abs() < 4.5 * (want * (1 - want) / 200_000).sqrt()).all())


def test_ones_and_zeros_mark_what_the_rescaled_mask_keeps() -> None:
    for replacement in (True, False):
        scaled, plain = (
            sample_mask(P, 3, seeding.generator(1), replacement=replacement, rescale=r, masks=50) for r in (True, False)
        )
        assert torch.equal((scaled > 0).to(plain), plain)


@pytest.mark.parametrize("kept", [0.5, 1, 2.5, 3, 4, 5.9, 6])
def test_inclusion_sums_to_what_is_kept_and_is_proportional_below_one(kept: float) -> None:
    q = inclusion(SCORES, kept)
    assert float(q.sum()) == pytest.approx(kept, rel=1e-12) and bool((q <= 1).all())
    below = q < 1
    ratio = (q / SCORES)[below]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    if bool(below.any()):
        # What is kept for certain would exceed 1 otherwise.
        assert bool(((ratio[0] * SCORES)[~below] >= 1 - 1e-9).all())
    order = torch.randperm(6, generator=seeding.generator(0))
    torch.testing.assert_close(inclusion(SCORES[order], kept), q[order])
    assert inclusion(SCORES.float(), kept).dtype == torch.float32


def test_inclusion_of_equal_and_zero_scores() -> None:
    assert inclusion(torch.tensor([2.0, 0.0, 2.0, 2.0]), 2).tolist() == pytest.approx([2 / 3, 0, 2 / 3, 2 / 3])
    assert inclusion(torch.tensor([2.0, 0.0, 1.0]), 2).tolist() == [1, 0, 1]
    assert inclusion(torch.tensor([3.0]), 1).tolist() == [1]
    many = torch.rand(1_000_000, generator=seeding.generator(0)).double()
    assert float(inclusion(many, 654_321).sum()) == pytest.approx(654_321)
    for scores, kept, text in (
        (torch.tensor([1.0, 0.0]), 2, "asked to keep 2 coordinates, got 1 positive scores"),
        (torch.tensor([1.0, 1.0]), 0, "asked to keep 0 coordinates, got 2"),
        (torch.tensor([0.0, 0.0]), 1, "got 0 positive"),
        (torch.tensor([1.0, -1.0]), 1, "a negative one"),
        (torch.ones(2, 2), 1, r"got \(2, 2\)"),
        (torch.tensor([1.0, torch.nan]), 1, "finite scores, got 1 NaN"),
    ):
        with pytest.raises(InputError, match=text):
            inclusion(scores, kept)


def test_poisson_masks_are_unbiased_and_independent() -> None:
    q = inclusion(SCORES, 3)
    masks = poisson_mask(q, seeding.generator(0), masks=100_000)
    assert unbiased(masks)
    plain = poisson_mask(q, seeding.generator(0), masks=100_000, rescale=False)
    torch.testing.assert_close(plain, masks * q)
    torch.testing.assert_close(plain.mT.cov(), (q * (1 - q)).diag(), rtol=0, atol=0.01)
    assert poisson_mask(torch.tensor([1.0, 0.0])).tolist() == [1, 0]
    assert poisson_mask(q.expand(3, 6), masks=2).shape == (2, 3, 6)
    with pytest.raises(InputError, match="asked for 0 masks"):
        poisson_mask(q, masks=0)


@pytest.mark.parametrize("replacement", [True, False])
def test_batches_of_probabilities(replacement: bool) -> None:
    rows = torch.stack([P, P.flip(0), torch.full((6,), 1 / 6).double()])
    masks = sample_mask(rows, 3, seeding.generator(0), replacement=replacement, masks=40_000)
    assert masks.shape == (40_000, 3, 6) and unbiased(masks.flatten(1))
    kept = (masks > 0).double().mean(0)
    alone = (sample_mask(P, 3, seeding.generator(1), replacement=replacement, masks=40_000) > 0).double().mean(0)
    torch.testing.assert_close(kept[0], alone, rtol=0, atol=0.015)
    torch.testing.assert_close(kept[1], alone.flip(0), rtol=0, atol=0.015)
    assert sample_mask(rows.expand(2, 3, 6), 3, replacement=replacement).shape == (2, 3, 6)


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_decides(replacement: bool, dtype: torch.dtype) -> None:
    p = torch.rand(500, generator=seeding.generator(0)).to(dtype)
    p /= p.sum()
    first, again, other = (
        sample_mask(p, 50, torch.Generator().manual_seed(seed), replacement=replacement) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other) and first.dtype == dtype
    assert torch.equal(
        sample_mask(p, 50, replacement=replacement),
        sample_mask(p, 50, seeding.generator(0, "sketch"), replacement=replacement),
    )


def test_float32_draws_what_float64_draws() -> None:
    p = torch.rand(500, generator=seeding.generator(0)).double()
    p /= p.sum()
    for replacement in (True, False):
        wide, narrow = (
            sample_mask(q, 50, seeding.generator(1), replacement=replacement, masks=20) for q in (p, p.float())
        )
        torch.testing.assert_close(narrow, wide.float(), rtol=1e-5, atol=1e-5)


def test_degenerate_draws() -> None:
    for replacement in (True, False):
        assert sample_mask(torch.ones(1), 1, replacement=replacement).tolist() == [1]
        lonely = torch.tensor([0.0, 1.0, 0.0])
        assert sample_mask(lonely, 1, replacement=replacement, masks=100).tolist() == [[0, 1, 0]] * 100
    assert sample_mask(torch.ones(1), 7).tolist() == [1]
    assert sample_mask(P, 6, replacement=False).tolist() == [1] * 6
    halves = torch.tensor([0.5, 0.0, 0.5])
    assert sample_mask(halves, 2, replacement=False).tolist() == [1, 0, 1]
    assert sample_mask(halves, 1000, masks=20)[:, 1].max() == 0


def test_probabilities_of_any_size_can_be_drawn_without_replacement() -> None:
    p = torch.tensor([1.0, 1e-200, 1e-310, 0.0], dtype=torch.float64)
    assert sample_mask(p, 3, replacement=False, masks=5).tolist() == [[1, 1, 1, 0]] * 5
    kept = sample_mask(p, 2, replacement=False, rescale=False, masks=5)
    assert kept.tolist() == [[1, 1, 0, 0]] * 5


def test_bad_input_names_both_sides() -> None:
    for arguments, options, text in (
        ((P, 0), {}, "asked for 0 draws"),
        ((P, 1.5), {}, "asked for 1.5 draws"),
        ((P, 2), {"masks": 0}, "asked for 0 masks"),
        ((P, 7), {"replacement": False}, "asked to draw 7 coordinates without replacement, got 6"),
        ((torch.tensor([0.5, 0.5, 0.0]), 3), {"replacement": False}, "draw 3 coordinates without replacement, got 2"),
        ((torch.zeros(3), 1), {}, "got zeros only"),
        ((torch.tensor([1.5, -0.5]), 1), {}, "got negative ones, the least -0.5"),
        ((torch.tensor([1.0, torch.nan]), 1), {}, "got 1 NaN"),
        ((torch.tensor(1.0), 1), {}, r"got probabilities of shape \(\)"),
        ((torch.zeros(2, 0), 1), {}, r"got probabilities of shape \(2, 0\)"),
        ((torch.tensor([1, 0]), 1), {}, "floating-point numbers, got torch.int64"),
    ):
        with pytest.raises(InputError, match=text):
            sample_mask(*arguments, **options)  # type: ignore[arg-type]
    with pytest.warns(NormalisedWarning, match="sum to 10.7") as caught:
        masks = sample_mask(SCORES, 3, seeding.generator(0))
    assert caught[0].filename == __file__
    assert torch.equal(masks, sample_mask(P, 3, seeding.generator(0)))


@pytest.mark.parametrize("d", [1, 2, 3, 1000, 5000, 20_000])
def test_the_table_draws_as_often_as_bisection(d: int) -> None:
    p = torch.rand(d, generator=seeding.generator(0)).double().pow(8)
    p[::3] = 0
    p[-1] = 0.3 * p.sum() + 1e-6
    p /= p.sum()
    draws = Draws(p, 1 << 40, seeding.generator(1))
    assert draws._cells
    slow = Draws(p, 1, seeding.generator(2))
    assert not slow._cells
    count = 2_000_001
    for sampler in (draws, slow):
        counts = torch.bincount(sampler.take(count), minlength=d).double()
        assert int(counts[p == 0].sum()) == 0 and float(counts.sum()) == count
        likely = p * count > 20
        away = (counts - p * count)[likely] / (p * (1 - p) * count + 1e-9)[likely].sqrt()
        assert float(away.abs().max()) < 5.5 and float(away.square().mean()) < 1 + 6 / likely.sum() ** 0.5
        rare = float(p[~likely].sum()) * count
        assert abs(float(counts[~likely].sum()) - rare) <= 5 * rare**0.5
    assert draws.take(0).shape == (0,) and draws.take(3).shape == (3,)


def test_a_cell_holds_the_piece_that_bisection_finds() -> None:
    p = torch.rand(300, generator=seeding.generator(0)).double().pow(4)
    p[10:20] = 0
    draws = Draws(p / p.sum(), 1 << 40, seeding.generator(1))
    for within in (0.0, 0.5, 1 - 2.0**-30):
        places = (torch.arange(draws._cells).double() + within) / draws._cells
        found = torch.searchsorted(draws._ends, places, right=True)
        whole = draws._piece >= 0
        assert torch.equal(found[whole], draws._piece[whole].long())
    assert 0 < int((draws._piece < 0).sum()) <= 300


@pytest.mark.slow
@pytest.mark.parametrize("replacement", [True, False])
def test_more_coordinates_than_multinomial_takes(replacement: bool) -> None:
    d = (1 << 24) + 5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    p = torch.full((d,), 0.5 / (d - 1))
    p[-1] = 0.5
    mask = sample_mask(p, 100_000, seeding.generator(0), replacement=replacement)
    assert float(mask[-1]) == pytest.approx(1, abs=0.02)
    assert 99_000 / (2 if replacement else 1) < int((mask > 0).sum()) <= 100_000
    # As many in the first half as in the second: no coordinate is out of reach.
    first, second = (int((half > 0).sum()) for half in mask.split((d + 1) // 2))
    assert abs(first - second) < 5 * (first + second) ** 0.5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 2_000_000
