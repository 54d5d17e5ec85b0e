"""Mask: which weights of a model are kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ticketlab import packing
from ticketlab.errors import InputError
from ticketlab.parameters import find_parameters

Model = TypeVar("Model", bound=nn.Module)


class Mask(Mapping[str, Tensor]):
    """A mapping from parameter names to bool tensors on the CPU, True where the weight is kept.

    Names are those of ``model.named_parameters()``, in that order. A mask is a value: its tensors are its own
    copies and are not meant to be changed.

    Args:
        tensors: one bool tensor per parameter, of the parameter's shape.
        fingerprint: what made the mask (method, options, sparsity, seed, ...), any JSON object.

    Raises:
        InputError: a tensor is not boolean.
    """

    def __init__(self, tensors: Mapping[str, Tensor], fingerprint: Mapping[str, Any] | None = None) -> None:
        for name, tensor in tensors.items():
            if tensor.dtype != torch.bool:
                raise InputError(f"a mask needs bool tensors, got {tensor.dtype} for {name!r}.")
        self._tensors = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        self.fingerprint: dict[str, Any] = dict(fingerprint or {})

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __eq__(self, other: object) -> bool:
        """Equal if names, shapes and kept positions agree; what made them does not matter."""
        if not isinstance(other, Mask):
            return NotImplemented
        return list(self) == list(other) and all(torch.equal(self[n], other[n]) for n in self)

    def __hash__(self) -> int:
        return int(self.digest()[:15], 16)

    def __repr__(self) -> str:
        return f"Mask({self.kept:,} of {self.total:,} weights kept in {len(self)} layers, sparsity {self.sparsity:.4f})"

    @property
    def kept(self) -> int:
        """The number of kept weights."""
        return sum(int(t.sum()) for t in self._tensors.values())

    @property
    def total(self) -> int:
        """The number of weights that the mask covers."""
        return sum(t.numel() for t in self._tensors.values())

    @property
    def sparsity(self) -> float:
        """The fraction of weights removed, in [0, 1]."""
        return 1 - self.kept / self.total if self.total else 0.0

    def counts(self) -> dict[str, tuple[int, int]]:
        """``{name: (kept, total)}``, in the mask's order."""
        return {name: (int(t.sum()), t.numel()) for name, t in self._tensors.items()}

    @property
    def empty_layers(self) -> list[str]:
        """The names of the layers that keep no weight at all."""
        return [name for name, (kept, _) in self.counts().items() if kept == 0]

    def overlap(self, other: Mask) -> float:
        """The share of kept weights in common: kept in both / kept in the sparser one; 1.0 if that one is empty.

        Raises:
            InputError: the masks cover different weights.
        """
        mine, theirs = _shapes(self), _shapes(other)
        if mine != theirs:
            different = sorted(set(mine.items()) ^ set(theirs.items()))[:3]
            raise InputError(f"asked for the overlap of masks over different weights: {different}.")
        common = sum(int((self[n] & other[n]).sum()) for n in self)
        fewest = min(self.kept, other.kept)
        return common / fewest if fewest else 1.0

    def apply_(self, model: Model) -> Model:
        """Set the pruned weights of ``model`` to exactly zero, in place, and return the model.

        Raises:
            InputError: the model lacks one of the mask's parameters, or its shape differs.
        """
        with torch.no_grad():
            for name, parameter in self.match(model).items():
                parameter.masked_fill_(~self[name].to(parameter.device), 0)
        return model

    def match(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters of ``model`` that this mask covers, after checking that names and shapes fit."""
        found = find_parameters(model, list(self))
        for name, parameter in found.items():
            if parameter.shape != self[name].shape:
                raise InputError(
                    f"the mask for {name!r} has shape {tuple(self[name].shape)}, "
                    f"but the model's weight has shape {tuple(parameter.shape)}."
                )
        return found

    def digest(self) -> str:
        """A hash of names, shapes and kept positions (hex)."""
        total = hashlib.sha256()
        for name, tensor in self._tensors.items():
            total.update(json.dumps([name, list(tensor.shape)]).encode())
            total.update(packing.pack(tensor).numpy().tobytes())
        return total.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as safetensors, one bit per weight, with its fingerprint. Replaces the file atomically."""
        packing.save(self._tensors, self.fingerprint, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Mask:
        """Read a mask that ``save`` wrote.

        Raises:
            InputError: the file is missing, unreadable, damaged, or not a mask.
        """
        return cls(*packing.load(Path(path)))

    @classmethod
    def from_bytes(cls, content: bytes, where: str = "memory") -> Mask:
        """A mask from the bytes of a file that ``save`` wrote; ``where`` names them in messages."""
        return cls(*packing.from_bytes(content, where))

    def to_bytes(self) -> bytes:
        """What ``save`` writes."""
        return packing.to_bytes(self._tensors, self.fingerprint)

    @classmethod
    def dense(cls, weights: Mapping[str, Tensor]) -> Mask:
        """A mask that keeps every one of the given weights."""
        return cls({name: torch.ones(w.shape, dtype=torch.bool) for name, w in weights.items()})


def _shapes(mask: Mask) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in mask.items()}
