"""Is this data fit to be trained on? Asked once, when data comes in."""

from __future__ import annotations

import torch

from ticketlab.data.types import Data, Split
from ticketlab.errors import InputError


def checked(data: Data) -> Data:
    """The same data, or InputError saying what of it cannot be used."""
    for part, split in (("training", data.train), ("test", data.test)):
        _check(split, f"the {part} set of {data.name!r}", data.classes)
    train, test = data.train.inputs, data.test.inputs
    if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
        raise InputError(
            f"the training inputs of {data.name!r} are {_kind(train)}, its test inputs {_kind(test)}; "
            "they must be alike"
        )
    channels = train.shape[1] if train.ndim > 1 else 0
    if {len(data.mean), len(data.std)} not in ({0}, {channels}):
        raise InputError(
            f"{data.name!r} has {channels} channels, {len(data.mean)} means and {len(data.std)} deviations; "
            "one of each per channel is needed, or none"
        )
    if (data.augment.pad or data.augment.flip) and train.ndim != 4:
        raise InputError(f"crops and flips need images (N, C, H, W); {data.name!r} has inputs {_kind(train)}")
    return data


def _check(split: Split, where: str, classes: int) -> None:
    inputs, targets = split.inputs, split.targets
    if not len(inputs):
        raise InputError(f"{where} is empty")
    if targets.shape != (len(inputs),):
        raise InputError(f"{where} has {len(inputs)} inputs and targets {_kind(targets)}; one class each is needed")
    if targets.dtype != torch.int64:
        raise InputError(f"{where} has {targets.dtype} targets; whole class numbers (torch.int64) are needed")
    if (low := int(targets.min())) < 0 or (high := int(targets.max())) >= classes:
        wrong = low if low < 0 else high
        raise InputError(f"{where} has label {wrong}; {classes} classes have the labels 0 to {classes - 1}")
    if inputs.dtype != torch.uint8 and not inputs.is_floating_point():
        raise InputError(f"{where} has {inputs.dtype} inputs; uint8 images or floating-point numbers are needed")
    if inputs.dtype == torch.uint8 and inputs.ndim != 4:
        raise InputError(f"{where} has uint8 inputs {_kind(inputs)}; images (N, C, H, W) are needed")
    if inputs.is_floating_point() and not (finite := inputs.isfinite()).all():
        bad = int((~finite).flatten(1).any(1).sum()) if inputs.ndim > 1 else int((~finite).sum())
        raise InputError(f"{where} has NaN or infinite values in {bad} of {len(inputs)} inputs")


def _kind(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
