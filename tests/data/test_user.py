"""Data of the user's own: every accepted form gives the same Data, every other form a clear error."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from ticketlab.data.load import load
from ticketlab.data.types import Augment, Data, Split
from ticketlab.data.user import from_user
from ticketlab.errors import InputError

PIXELS = torch.randint(256, (12, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


class Pairs(Dataset[Any]):
    """A map-style data set that gives what `make` makes of each image."""

    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        self.make = make

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.make(PIXELS[i]), LABELS[i]


@pytest.mark.parametrize(
    "part",
    [
        (PIXELS, LABELS),
        [PIXELS.numpy(), LABELS.numpy().astype(np.uint8)],
        Split(PIXELS, LABELS.int()),
        TensorDataset(PIXELS, LABELS),
        Pairs(lambda x: x.numpy()),
        Pairs(lambda x: Image.fromarray(x.permute(1, 2, 0).numpy())),
        [(x, int(y)) for x, y in zip(PIXELS, LABELS, strict=True)],
    ],
    ids=["tensors", "arrays", "split", "TensorDataset", "dataset", "pictures", "list"],
)
def test_every_form_of_images(part: Any) -> None:
    data = from_user((part, part), name="mine")
    assert (data.name, data.classes, data.in_shape) == ("mine", 3, (3, 5, 4))
    assert torch.equal(data.train.inputs, PIXELS) and torch.equal(data.test.targets, LABELS)
    assert data.train.targets.dtype == torch.int64
    levels = PIXELS.double() / 255
    assert data.mean == pytest.approx(levels.mean((0, 2, 3)).tolist())
    assert data.std == pytest.approx(levels.std((0, 2, 3), correction=0).tolist())


def test_floats_and_grey_images() -> None:
    floats = torch.randn(12, 7, dtype=torch.float64)
    data = from_user(((floats, LABELS), (floats[:5], LABELS[:5])))
    assert data.mean == data.std == () and data.in_shape == (7,)
    assert torch.equal(data.train.inputs, floats.float())
    grey = from_user(((PIXELS[:, 0], LABELS), (PIXELS[:, 0], LABELS)))
    assert grey.in_shape == (1, 5, 4)


def test_constant_channel_has_deviation_one() -> None:
    black = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    assert from_user(((black, LABELS[:4]), (black, LABELS[:4]))).std == (1.0,)


def test_data_is_only_checked() -> None:
    data = load("digits", limit_train=10)
    assert from_user(data) is data


def random_view() -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x.float() + torch.rand(())


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([])


GOOD = (PIXELS, LABELS)
FLOATS = torch.ones(12, 4)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD[0], "as (train, test), got a Tensor"),
        ((GOOD,), "as (train, test), got a tuple of 1"),
        ((GOOD, Stream()), "test set of 'user' as a map-style data set or (inputs, targets), got a Stream"),
        ((GOOD, {"x": 1}), "got a dict of 1"),
        (((PIXELS[:0], LABELS[:0]), GOOD), "training set of 'user' is empty"),
        (([], GOOD), "training set of 'user' is empty"),
        ((GOOD, (PIXELS, LABELS[:4])), "12 inputs and targets (4,)"),
        ((GOOD, (PIXELS, LABELS.float())), "float32 targets"),
        ((GOOD, (PIXELS, LABELS - 1)), "label -1; 3 classes have the labels 0 to 2"),
        ((GOOD, (PIXELS, torch.eye(12).long())), "targets (12, 12) int64"),
        ((GOOD, (PIXELS[..., 1:], LABELS)), "(12, 3, 5, 4) uint8, its test inputs (12, 3, 5, 3) uint8"),
        ((GOOD, (PIXELS.float(), LABELS)), "its test inputs (12, 3, 5, 4) float32"),
        (((PIXELS.permute(0, 2, 3, 1), LABELS), GOOD), "channels last; permute them"),
        (((PIXELS.long(), LABELS), GOOD), "torch.int64 inputs"),
        (((PIXELS[:, 0, 0], LABELS), GOOD), "uint8 inputs (12, 4)"),
        (((FLOATS / torch.arange(12)[:, None].clamp(max=1), LABELS), (FLOATS, LABELS)), "in 1 of 12 inputs"),
        ((Pairs(random_view()), GOOD), "gives another input each time"),
        ((Pairs(lambda x: x[:, : 1 + int(x[0, 0, 0]) % 4]), GOOD), "one shape is needed"),
        (([(1.0, "cat")], GOOD), "pairs (input, class)"),
        (([1, 2, 3], GOOD), "pairs (input, class)"),
    ],
)
def test_refused(data: Any, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        from_user(data)


def test_refused_data() -> None:
    split, flat = Split(*GOOD), Split(FLOATS, LABELS)
    with pytest.raises(InputError, match="3 channels, 1 means and 1 deviations"):
        from_user(Data("d", split, split, 3, (0.5,), (0.5,)))
    with pytest.raises(InputError, match="crops and flips need images"):
        from_user(Data("d", flat, flat, 3, augment=Augment(pad=1)))
    with pytest.raises(InputError, match="label 2; 2 classes"):
        from_user(Data("d", flat, flat, 2))
