"""The digits that are always there, and what a Data says of itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ticketlab.data.load import load
from ticketlab.data.types import Augment, Data, Split
from ticketlab.errors import InputError


def values(split: Split) -> np.ndarray:
    """The stored values 0..16 of scikit-learn, row by row."""
    return np.rint(split.inputs.numpy().reshape(len(split), 64) * (16 / 255))


def test_digits_are_a_stratified_split_of_all() -> None:
    data = load("digits")
    images, labels = load_digits(return_X_y=True)
    assert (len(data.train), len(data.test), data.in_shape) == (1437, 360, (1, 8, 8))
    whole = sorted((*row, label) for row, label in zip(images.tolist(), labels.tolist(), strict=True))
    found = [
        (*row, label)
        for split in (data.train, data.test)
        for row, label in zip(values(split).tolist(), split.targets.tolist(), strict=True)
    ]
    assert sorted(found) == whole
    share = data.test.targets.bincount() - torch.from_numpy(np.bincount(labels)) / 5
    assert share.abs().max() <= 1


def test_digits_normalise_to_mean_zero_and_deviation_one() -> None:
    data = load("digits")
    pixels = data.train.inputs.double() / 255
    assert pixels.mean().item() == pytest.approx(data.mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(data.std[0], abs=1e-4)


@pytest.mark.parametrize("limit", [1, 7, 10, 95, 1437, 9999])
def test_limit_is_balanced_and_nested(limit: int) -> None:
    data = load("digits", limit_train=limit, limit_test=limit)
    assert len(data.train) == min(limit, 1437) and len(data.test) == min(limit, 360)
    if limit <= 1000:
        counts = data.train.targets.bincount(minlength=10)
        assert counts.max() - counts.min() <= 1
    more = load("digits", limit_train=limit + 3)
    rows = {tuple(row) for row in values(more.train).tolist()}
    assert all(tuple(row) in rows for row in values(data.train).tolist())


def test_limit_of_nothing() -> None:
    with pytest.raises(InputError, match="asked to keep 0 of 1437"):
        load("digits", limit_train=0)


def test_chance_is_the_largest_class() -> None:
    split = Split(torch.zeros(4, 2), torch.tensor([0, 1, 1, 1]))
    assert Data("d", split, split, 2).chance == 75.0


def test_fingerprint_sees_everything_that_training_reads() -> None:
    data = load("digits", limit_train=20)
    train = data.train
    moved, relabelled = train.inputs.clone(), train.targets.clone()
    moved[0, 0, 0, 3] += 1
    relabelled[0] = (relabelled[0] + 1) % 10
    others = [
        replace(data, train=Split(moved, train.targets)),
        replace(data, train=Split(train.inputs, relabelled)),
        replace(data, train=Split(train.inputs.reshape(-1, 1, 4, 16), train.targets)),
        replace(data, test=train),
        replace(data, mean=(0.5,)),
        replace(data, augment=Augment(flip=True)),
        replace(data, classes=11),
    ]
    prints = {d.fingerprint for d in (data, *others)}
    assert len(prints) == len(others) + 1
    assert replace(data, name="renamed").fingerprint == load("digits", limit_train=20).fingerprint
    assert data.to("cpu").fingerprint == data.fingerprint
    strided = Split(train.inputs.transpose(2, 3).contiguous().transpose(2, 3), train.targets)
    assert replace(data, train=strided).fingerprint == data.fingerprint


def test_to_device() -> None:
    data = load("digits", limit_train=5).to("meta")
    assert data.train.inputs.device.type == data.test.targets.device.type == "meta"
