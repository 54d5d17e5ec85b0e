"""The data as everything else sees it: two splits of tensors, and how to normalise and augment them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their classes.

    `inputs`: uint8 images (N, C, H, W), or floats (N, ...) of the user's own. `targets`: int64 (N,).
    `ordered`: every epoch reads them in the order in which they are stored.
    """

    inputs: Tensor
    targets: Tensor
    ordered: bool = False

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: Tensor) -> Split:
        """The examples at these positions, copied, in that order."""
        return Split(self.inputs[index], self.targets[index])

    def to(self, device: torch.device | str) -> Split:
        """The same examples on `device`."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))


@dataclass(frozen=True)
class Augment:
    """Random crops of the image padded by `pad` pixels of zero on every side, and random left-right flips."""

    pad: int = 0
    flip: bool = False


@dataclass(frozen=True, eq=False)
class Data:
    """A data set. `mean` and `std` are per channel, with uint8 pixels taken as [0, 1]; empty: none."""

    name: str
    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: Augment = field(default_factory=Augment)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The shape of one example, without the batch."""
        return tuple(self.train.inputs.shape[1:])

    @cached_property
    def chance(self) -> float:
        """Test accuracy in percent of always answering the most frequent class of the test set."""
        counts = torch.bincount(self.test.targets, minlength=self.classes)
        return 100.0 * counts.max().item() / len(self.test)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that training reads: contents, shapes, types, normalisation, augmentation."""
        digest = hashlib.sha256(repr((self.classes, self.mean, self.std, self.augment)).encode())
        digest.update(b"ordered" if self.train.ordered else b"")
        for tensor in (self.train.inputs, self.train.targets, self.test.inputs, self.test.targets):
            digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
            stored = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(stored.numpy().data)
        return digest.hexdigest()

    @cached_property
    def affine(self) -> tuple[Tensor, Tensor] | None:
        """(scale, shift), each (C, 1, 1): `inputs * scale + shift` is normalised. None: nothing to do."""
        inputs = self.train.inputs
        unit = 1.0 if inputs.is_floating_point() else 1 / 255
        if not self.mean and unit == 1.0:
            return None
        mean = torch.tensor(self.mean or (0.0,), dtype=torch.float64)
        std = torch.tensor(self.std or (1.0,), dtype=torch.float64)
        shape = (-1,) + (1,) * (inputs.ndim - 2)
        scale, shift = (unit / std).float(), (-mean / std).float()
        return scale.reshape(shape).to(inputs.device), shift.reshape(shape).to(inputs.device)

    def to(self, device: torch.device | str) -> Data:
        """The same data on `device`."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))
