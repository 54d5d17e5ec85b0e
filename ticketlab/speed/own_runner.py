"""ticketlab's own path: only the kept weights are multiplied, where that is faster."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ticketlab.errors import DensePathWarning, InputError
from ticketlab.sparse.compiled import compile_ticket
from ticketlab.speed.runner import Call, Case


class OwnCall:
    """The network as ``ticketlab.compile_ticket`` makes it; it tunes itself in the calls that come before the clock."""

    def __init__(self, case: Case) -> None:
        with warnings.catch_warnings():
            # The report gives the path.
            warnings.simplefilter("ignore", DensePathWarning)
            self._model = compile_ticket(case.subject.model, case.subject.mask)
            # For the path, which the first batch decides.
            self._model(case.subject.batch(case.batch))
        if self._model.refused:
            raise InputError(self._model.refused)

    @property
    def path(self) -> str:
        """How it runs; why not as a whole is for who asks the compiled ticket itself."""
        return self._model.path.partition(";")[0]

    def __call__(self, inputs: Tensor) -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = self._model(inputs)
        return outputs


def start(case: Case) -> Call:
    """The compiled ticket.

    Raises:
        InputError: the kernels cannot serve the network; torch's dense path has rows of its own.
    """
    return OwnCall(case)
