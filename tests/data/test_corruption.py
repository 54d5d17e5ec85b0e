"""What each corruption changes, what it leaves alone, and that its facts say so."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Generator

from ticketlab.data import corruption, variants
from ticketlab.data.types import Split
from ticketlab.errors import InputError


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


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 200), size=st.integers(1, 70))
def test_first_half_is_the_head_as_stored(n: int, size: int) -> None:
    clean = sample(n, (1, 2, 2))
    inputs, targets = clean.inputs.clone(), clean.targets.clone()
    kept, facts = corruption.first_half(clean, size)
    count = len(kept)
    assert kept.ordered and not clean.ordered and facts["order_fixed"]
    assert torch.equal(kept.inputs, inputs[:count]) and torch.equal(kept.targets, targets[:count])
    assert torch.equal(clean.inputs, inputs) and torch.equal(clean.targets, targets)
    assert (facts["count_before"], facts["count_after"]) == (n, count) and facts["images_kept"] == count / n
    assert facts["labels_kept"] and facts["values_kept"]
    # Whole batches, and never more than half of the examples while there are two of them.
    assert count == min(n, size) or (count % size == 0 and n / 2 - size <= count <= n / 2 + size / 2)
    assert variants.examples_left("half-data-su2020", n, size) == count


def test_first_half_of_cifar_is_the_390_batches_of_the_papers_code() -> None:
    """``--max_batch_idx 390``: the batches 0 to 389, half of the 781 full ones."""
    assert corruption.whole_batches_of_half(50_000, 64) == 390 * 64
    assert corruption.whole_batches_of_half(50_000, 128) == 195 * 128
    assert [corruption.whole_batches_of_half(n, 10) for n in (5, 10, 25, 60, 69)] == [5, 10, 10, 30, 30]


def test_first_half_of_data_stored_class_by_class_says_that_classes_are_missing() -> None:
    clean = sample(40, (1, 1, 1))
    by_class = clean.take(clean.targets.argsort(stable=True))
    assert [corruption.first_half(split, 10)[1]["every_class"] for split in (clean, by_class)] == [True, False]


def test_first_half_depends_on_the_batches_and_on_no_seed() -> None:
    data = tiny.data()
    one, two, other = (variants.tampered(data, "half-data-su2020", *a)[0] for a in ((0, 10), (1, 10), (0, 20)))
    assert tiny.same(one, two) and (len(one), len(other)) == (30, 20)
    with pytest.raises(InputError, match="'halfdata'"):
        variants.tampered(data, "halfdata", 0)


@pytest.mark.parametrize("variant", variants.VARIANTS)
def test_variants_are_as_long_as_estimated(variant: str) -> None:
    data = tiny.data()
    split, facts = variants.tampered(data, variant, 0, 10)
    assert len(split) == variants.examples_left(variant, len(data.train), 10) == facts["count_after"]
    assert split.to("cpu").ordered == split.ordered == (variant == variants.FIRST_HALF)


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
