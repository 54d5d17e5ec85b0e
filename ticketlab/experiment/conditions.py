"""The conditions: what all trainings of a study, or of a single ticket, have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ticketlab.engine.recipe import Recipe


@dataclass(frozen=True)
class Conditions:
    """What decides a step beside its method, sparsity and seed. All values are plain.

    Attributes:
        data: name, counts, classes, in_shape, chance, fingerprint.
        model: name, identity, number of weights.
        recipe: the training recipe.
        numerics: device, precision, threads per ticket, torch version, instruction set.
        scoring: how the batch for scores is drawn (``per_class``).
    """

    data: dict[str, Any]
    model: dict[str, Any]
    recipe: dict[str, Any]
    numerics: dict[str, Any]
    scoring: dict[str, Any]

    @property
    def training(self) -> Recipe:
        """The recipe as an object."""
        return Recipe.from_json(self.recipe)
