"""Steps: the pure pieces of work that a study is made of, and what they leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ticketlab.contents import tensors_digest
from ticketlab.experiment.identity import digest
from ticketlab.mask import Mask

# What a kind of step computes; raised when its code starts to give other results for the same parameters.
REVISIONS = {"init": 1, "data": 1, "train": 2, "prune": 1, "transform": 1, "control": 1}


@dataclass(frozen=True)
class Step:
    """One piece of work.

    Attributes:
        kind: "init", "data", "train", "prune", "transform" or "control".
        params: plain values; with the inputs they decide the result completely.
        inputs: role -> id of the step that provides it. The part of the role after the last dot names what is taken
            of it: "mask", "weights", "momentum" or "facts".
        label: for people; not part of the identity.
        method: the spec of the method that a prune step uses; its identity is inside ``params``.
    """

    kind: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    label: str = field(default="", compare=False)
    method: str = field(default="", compare=False)

    @cached_property
    def id(self) -> str:
        """The step's name: a hash of kind, parameters, ids of the inputs and the revision of the code."""
        return digest([self.kind, REVISIONS[self.kind], self.params, self.inputs])

    def content_key(self, digests: Mapping[str, str]) -> str:
        """What the step computes, by the contents of its inputs: steps with equal keys have equal results."""
        return digest([self.kind, REVISIONS[self.kind], self.params, digests])


@dataclass
class Result:
    """What a step leaves behind: plain facts, and a mask or tensors in named groups."""

    facts: dict[str, Any] = field(default_factory=dict)
    mask: Mask | None = None
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def digests(self) -> dict[str, str]:
        """A content hash for each thing that another step can take."""
        found = {group: tensors_digest(tensors) for group, tensors in self.tensors.items()}
        if self.mask is not None:
            found["mask"] = self.mask.digest()
        found["facts"] = digest(self.facts.get("facts", {}))
        return found
