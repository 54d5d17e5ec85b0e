"""A model's factory: makes fresh models, can travel to worker processes, and knows its identity."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from ticketlab import seeding
from ticketlab.errors import InputError
from ticketlab.experiment.identity import digest, source
from ticketlab.models.registry import MODELS, build

ModelLike = str | nn.Module | Callable[..., nn.Module]

# Raised when a registered model starts to compute something else.
_REVISION = 1


class Factory:
    """Builds one kind of model.

    Args:
        model: a registered name, ``package:factory``, a factory called with ``num_classes`` and ``in_shape`` if it
            takes them, or a module whose weights are the initialisation of every seed.
    """

    def __init__(self, model: ModelLike, classes: int, in_shape: tuple[int, ...]) -> None:
        self.model = model
        self._arguments = (classes, in_shape)

    def __call__(self) -> nn.Module:
        """A fresh model under the current global random state."""
        if isinstance(self.model, nn.Module):
            return copy.deepcopy(self.model)
        return build(self.model, *self._arguments)

    @property
    def name(self) -> str:
        """For labels."""
        if isinstance(self.model, str):
            return self.model
        if isinstance(self.model, nn.Module):
            return type(self.model).__name__
        return str(getattr(self.model, "__name__", type(self.model).__name__))

    def identity(self) -> str:
        """A hash of what decides the model: its registered name, the user's own factory, or a module's contents."""
        if isinstance(self.model, str) and self.model in MODELS:
            return digest([self.model, _REVISION])
        with seeding.isolated(0, "shape"):
            # In training mode, as every run starts.
            model = self()
            model.train()
        if isinstance(self.model, nn.Module):
            return digest([str(model), source(model)])
        # The code of every layer with its plain attributes; the weights are those of each seed.
        return digest([self.name, source(self._callable()), source(model, weights=False)])

    def _callable(self) -> Callable[..., Any]:
        if not isinstance(self.model, str):
            return self.model
        from ticketlab.spec import import_named

        found = import_named(self.model)
        if not callable(found):
            raise InputError(f"asked for model {self.model!r}, got {type(found).__name__}, not a factory.")
        return found
