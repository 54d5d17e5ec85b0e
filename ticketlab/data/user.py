"""Data of your own, as tensors, arrays or map-style data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ticketlab.data.check import checked
from ticketlab.data.types import Data, Split
from ticketlab.errors import InputError


def from_user(data: Any, name: str = "user") -> Data:
    """Data from (train, test), or from a Data, which is only checked.

    Each of the two is a map-style data set of (input, class) pairs, or (inputs, targets) as tensors or
    arrays: uint8 images (N, C, H, W) or (N, H, W), or floats (N, ...). The number of classes is the largest
    label plus one. uint8 images are normalised by the mean and deviation of each channel of the training set;
    floats are taken as they are, in single precision. Data sets are read once, into memory: a random transform
    would be frozen, so it is refused.

    Raises InputError for anything that this does not describe.
    """
    if isinstance(data, Data):
        return checked(data)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError(f"asked for data as (train, test), got {_describe(data)}")
    train, test = (
        _split(part, f"the {which} set of {name!r}") for part, which in zip(data, ("training", "test"), strict=True)
    )
    classes = 1 + max((int(s.targets.max()) for s in (train, test) if len(s)), default=0)
    mean, std = _channel_statistics(train.inputs)
    return checked(Data(name, train, test, classes, mean, std))


def _split(part: Any, where: str) -> Split:
    if isinstance(part, Split):
        return Split(_inputs(part.inputs, where), _targets(part.targets, where))
    if isinstance(part, tuple | list) and len(part) == 2 and all(hasattr(p, "__array__") for p in part):
        return Split(_inputs(part[0], where), _targets(part[1], where))
    if not (hasattr(part, "__len__") and hasattr(part, "__getitem__")) or isinstance(
        part, dict | str | np.ndarray | Tensor
    ):
        raise InputError(f"asked for {where} as a map-style data set or (inputs, targets), got {_describe(part)}")
    return _stacked(part, where)


def _stacked(dataset: Any, where: str) -> Split:
    try:
        pairs = [(_array(x), int(y)) for x, y in (dataset[i] for i in range(len(dataset)))]
        again = [_array(dataset[i][0]) for i in range(min(8, len(pairs)))]
    except (TypeError, ValueError) as error:
        raise InputError(f"asked {where} for pairs (input, class), got: {error}") from error
    if not pairs:
        raise InputError(f"{where} is empty")
    if shapes := {x.shape for x, _ in pairs} - {pairs[0][0].shape}:
        raise InputError(f"{where} has inputs {pairs[0][0].shape} and {shapes.pop()}; one shape is needed")
    if not all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, (y, _) in zip(again, pairs, strict=False)):
        raise InputError(
            f"{where} gives another input each time it is read; leave out its random transforms, and use "
            "Data(..., augment=Augment(pad, flip)) for crops and flips"
        )
    targets = torch.tensor([y for _, y in pairs])
    return Split(_inputs(np.stack([x for x, _ in pairs]), where), targets)


def _array(x: Any) -> np.ndarray:
    """A tensor, number or array as it is; a PIL image as (C, H, W)."""
    if isinstance(x, Tensor):
        return x.detach().cpu().numpy()
    array = np.asarray(x)
    if hasattr(x, "getbands"):
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array


def _inputs(values: Any, where: str) -> Tensor:
    inputs = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if inputs.is_floating_point():
        return inputs.float()
    if inputs.dtype == torch.uint8 and inputs.ndim == 3:
        return inputs.unsqueeze(1)
    if inputs.dtype == torch.uint8 and inputs.ndim == 4 and inputs.shape[3] in (1, 3) and inputs.shape[1] > 4:
        raise InputError(f"{where} has images {tuple(inputs.shape)}, channels last; permute them to (N, C, H, W)")
    return inputs


def _targets(values: Any, where: str) -> Tensor:
    targets = values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    if targets.is_floating_point() or targets.is_complex():
        raise InputError(f"{where} has {targets.dtype} targets; whole class numbers are needed")
    return targets.long()


def _channel_statistics(inputs: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in [0, 1]; none for floats. A constant channel has deviation 1."""
    if inputs.dtype != torch.uint8 or inputs.ndim != 4 or not len(inputs):
        return (), ()
    channels = [inputs[:, c].flatten() for c in range(inputs.shape[1])]
    shares = torch.stack([torch.bincount(c, minlength=256).double() / len(c) for c in channels])
    levels = torch.arange(256, dtype=torch.float64, device=inputs.device) / 255
    mean = shares @ levels
    std = (shares @ levels**2 - mean**2).clamp(min=0).sqrt()
    std[std < 1e-6] = 1
    return tuple(mean.tolist()), tuple(std.tolist())


def _describe(value: Any) -> str:
    kind = f"a {type(value).__name__}"
    return f"{kind} of {len(value)}" if isinstance(value, tuple | list | dict) else kind
