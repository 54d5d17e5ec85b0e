"""Order, augmentation and normalisation against the plain loops that they replace."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from ticketlab.data.batches import epoch_batches, order, prepare, rank_in_class, scoring_batches
from ticketlab.data.load import load
from ticketlab.data.types import Augment, Data, Split
from ticketlab.errors import InputError


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6, augment: Augment | None = None) -> Data:
    pixels = torch.randint(1, 256, (n, 3, 5, 7), generator=seeded(), dtype=torch.uint8)
    split = Split(pixels, torch.arange(n) % 2)
    return Data("images", split, split, 2, (0.1, 0.5, 0.7), (0.2, 0.3, 0.4), augment or Augment())


def test_order_is_a_seeded_permutation() -> None:
    assert order(50, seeded()).sort().values.tolist() == list(range(50))
    assert torch.equal(order(50, seeded(1)), order(50, seeded(1)))
    assert not torch.equal(order(50, seeded(1)), order(50, seeded(2)))


def test_epoch_has_every_example_once() -> None:
    batches = list(epoch_batches(10, 4, seeded()))
    assert [len(b) for b in batches] == [4, 4, 2]
    assert torch.equal(torch.cat(batches), order(10, seeded()))
    with pytest.raises(InputError, match="batches of 0"):
        epoch_batches(10, 0, seeded())


def test_normalising() -> None:
    data = images()
    expected = (data.train.inputs.double() / 255 - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[
        :, None, None
    ]
    got = prepare(data, data.train.inputs)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


def test_floats_are_left_as_they_are() -> None:
    split = Split(torch.randn(4, 9), torch.zeros(4, dtype=torch.int64))
    data = Data("floats", split, split, 1)
    assert torch.equal(prepare(data, split.inputs), split.inputs)
    scaled = prepare(replace(data, mean=(1.0,) * 9, std=(2.0,) * 9), split.inputs)
    torch.testing.assert_close(scaled, (split.inputs - 1) / 2)


def placements(image: Tensor, pad: int, flip: bool) -> list[Tensor]:
    """Every crop of the padded image, and its mirror image."""
    c, h, w = image.shape
    padded = torch.zeros(c, h + 2 * pad, w + 2 * pad, dtype=image.dtype)
    padded[:, pad : pad + h, pad : pad + w] = image
    size = range(2 * pad + 1)
    crops = [padded[:, y : y + h, x : x + w] for y in size for x in size]
    return crops + [crop.flip(2) for crop in crops] if flip else crops


@pytest.mark.parametrize(("pad", "flip"), [(0, True), (1, False), (2, True)])
def test_augmented_images_are_crops_and_flips(pad: int, flip: bool) -> None:
    data = replace(images(augment=Augment(pad, flip)), mean=(), std=())
    before = data.train.inputs.clone()
    seen = set()
    for seed in range(40):
        got = (prepare(data, before, generator=seeded(seed), augment=True) * 255).round().to(torch.uint8)
        for i, image in enumerate(got):
            (which, *_) = [k for k, p in enumerate(placements(before[i], pad, flip)) if torch.equal(p, image)]
            seen.add((i, which))
    assert torch.equal(before, data.train.inputs)
    assert {k for _, k in seen} == set(range((2 * pad + 1) ** 2 * (1 + flip)))


def test_augmentation_is_seeded_and_drawn_per_image() -> None:
    data = images(augment=Augment(2, True))
    same = data.train.inputs[:1].expand(64, -1, -1, -1)
    one, two = (prepare(data, same, generator=seeded(3), augment=True) for _ in range(2))
    assert torch.equal(one, two)
    assert len({tuple(image.flatten().tolist()) for image in one}) > 20


def test_no_augmentation_draws_nothing() -> None:
    data, generator = images(), seeded()
    before = generator.get_state()
    plain = prepare(data, data.train.inputs, generator=generator, augment=True)
    assert torch.equal(plain, prepare(data, data.train.inputs))
    assert torch.equal(generator.get_state(), before)


def test_rank_in_class() -> None:
    assert rank_in_class(torch.tensor([2, 0, 2, 2, 0, 5])).tolist() == [0, 0, 1, 2, 1, 0]


def test_scoring_batches_are_balanced_and_ordered() -> None:
    data = load("digits")
    parts = scoring_batches(data.train, data, per_class=6, parts=3, generator=seeded())
    assert [len(y) for _, y in parts] == [20, 20, 20]
    assert torch.cat([y for _, y in parts]).tolist() == [c for c in range(10) for _ in range(6)]
    every = {
        tuple(x.flatten().tolist()): int(y)
        for x, y in zip(prepare(data, data.train.inputs), data.train.targets, strict=True)
    }
    chosen = [(tuple(x.flatten().tolist()), int(y)) for xs, ys in parts for x, y in zip(xs, ys, strict=True)]
    assert len(set(chosen)) == 60 and all(every[x] == y for x, y in chosen)
    again = scoring_batches(data.train, data, per_class=6, parts=3, generator=seeded(1))
    assert not torch.equal(again[0][0], parts[0][0])


def test_scoring_batches_take_fewer_where_a_class_has_fewer() -> None:
    data = images(5)
    ((_, targets),) = scoring_batches(data.train, data, per_class=3, parts=1, generator=seeded())
    assert targets.tolist() == [0, 0, 0, 1, 1]
    for per_class, parts in ((0, 1), (1, 3), (1, 0)):
        with pytest.raises(InputError, match=f"{per_class} examples per class in {parts} parts"):
            scoring_batches(data.train, data, per_class=per_class, parts=parts, generator=seeded())
