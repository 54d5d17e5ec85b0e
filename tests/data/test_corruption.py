"""What each corruption changes, what it leaves alone, and that its facts say so."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Generator

from ticketlab.data import corruption
from ticketlab.data.types import Split


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def sample(n: int, shape: tuple[int, ...] = (3, 4, 4), floats: bool = False) -> Split:
    inputs = torch.randn(n, *shape) if floats else torch.randint(256, (n, *shape), dtype=torch.uint8)
    return Split(inputs, torch.arange(n) % 10)


def sorted_rows(split: Split) -> torch.Tensor:
    return split.inputs.flatten(1).sort(1).values


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 40), floats=st.booleans(), seed=st.integers(0, 99))
def test_each_changes_its_own_part_only(n: int, floats: bool, seed: int) -> None:
    clean = sample(n, floats=floats)
    inputs, targets = clean.inputs.clone(), clean.targets.clone()
    labels, label_facts = corruption.random_labels(clean, 10, seeded(seed))
    pixels, pixel_facts = corruption.random_pixels(clean, seeded(seed))
    both, both_facts = corruption.corrupted(clean, 10, seeded(seed))
    kept, half_facts = corruption.half(clean, seeded(seed))

    assert torch.equal(clean.inputs, inputs) and torch.equal(clean.targets, targets)
    assert torch.equal(labels.inputs, inputs) and torch.equal(pixels.targets, targets)
    assert torch.equal(both.targets, labels.targets)
    for shuffled in (pixels, both):
        assert torch.equal(sorted_rows(shuffled), sorted_rows(clean))
        assert shuffled.inputs.shape == inputs.shape and shuffled.inputs.dtype == inputs.dtype

    changed = (labels.targets != targets).double().mean().item()
    moved = (pixels.inputs != inputs).double().mean().item()
    assert label_facts["labels_changed"] == both_facts["labels_changed"] == pytest.approx(changed)
    assert pixel_facts["pixels_moved"] == pytest.approx(moved)
    assert pixel_facts["labels_kept"] and pixel_facts["values_kept"] and both_facts["values_kept"]
    assert label_facts["pixels_moved"] == 0 and label_facts["images_kept"] == 1
    assert len(kept) == half_facts["count_after"] == max(1, n // 2)
    assert half_facts["count_before"] == n and half_facts["labels_kept"]


def test_labels_are_uniform() -> None:
    clean = sample(20_000, (1, 1, 1))
    corrupt, facts = corruption.random_labels(clean, 10, seeded(1))
    assert chisquare(corrupt.targets.bincount(minlength=10).numpy()).pvalue > 1e-3
    assert facts["labels_changed"] == pytest.approx(0.9, abs=0.01)


def test_pixels_go_anywhere_across_channels() -> None:
    """One marked value of a (2, 1, 3) image lands on each of the six places equally often."""
    inputs = torch.zeros(12_000, 2, 1, 3, dtype=torch.uint8)
    inputs[:, 0, 0, 0] = 9
    corrupt, facts = corruption.random_pixels(Split(inputs, torch.zeros(12_000).long()), seeded(0))
    landed = corrupt.inputs.flatten(1).argmax(1).bincount(minlength=6)
    assert chisquare(landed.numpy()).pvalue > 1e-3
    assert facts["images_kept"] == pytest.approx(1 / 6, abs=0.02)


def test_every_image_has_its_own_permutation() -> None:
    row = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    corrupt, _ = corruption.random_pixels(Split(row.repeat(20, 1, 1, 1), torch.zeros(20).long()), seeded(0))
    assert len({tuple(image.flatten().tolist()) for image in corrupt.inputs}) == 20


def test_half_is_a_random_subset_in_stored_order() -> None:
    clean = Split(torch.arange(100.0).reshape(100, 1), torch.arange(100) % 10)
    one, facts = corruption.half(clean, seeded(0))
    two, _ = corruption.half(clean, seeded(1))
    places = one.inputs.flatten().long()
    assert places.tolist() == sorted(set(places.tolist())) and len(places) == 50
    assert torch.equal(one.targets, places % 10)
    assert not torch.equal(one.inputs, two.inputs)
    assert facts["images_kept"] == 0.5


@pytest.mark.parametrize("name", ["random_pixels", "half"])
def test_same_seed_same_result(name: str) -> None:
    clean = sample(30)
    one, two = (getattr(corruption, name)(clean, seeded(5))[0] for _ in range(2))
    assert torch.equal(one.inputs, two.inputs)
    other = getattr(corruption, name)(clean, seeded(6))[0]
    assert not torch.equal(one.inputs, other.inputs)


def test_a_lost_value_is_noticed_in_every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corruption, "_CHUNK", 48 * 3)
    clean = sample(10)
    _, facts = corruption.random_pixels(clean, seeded(0))
    assert facts["values_kept"] and facts["images_kept"] == 0
    changed = clean.inputs.clone()
    changed[9, 0, 0, 0] += 1
    facts = corruption._compare(clean, Split(changed, clean.targets))
    assert not facts["values_kept"]
    assert facts["pixels_moved"] == 1 / 480 and facts["images_kept"] == 0.9
