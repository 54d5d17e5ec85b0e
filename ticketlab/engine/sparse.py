"""Tickets at the cost of what they keep: one at a time, on the native sparse kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ticketlab.engine.eager import Eager
from ticketlab.engine.engine import Probe, Setting, State, check_weights
from ticketlab.engine.job import Job, clones, tensors_of
from ticketlab.engine.sparse_fit import arithmetic, places
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.parameters import prunable
from ticketlab.sparse.model import SparseModel

# The share of a dense net's products from which on dense kernels are as fast. A rule and no measurement: which kernels
# train a ticket decides its bits, and those must be the same on every machine.
_DENSE = 0.5


class Sparse:
    """Trains one ticket; every ticket gets a net of its own, as no two masks are alike.

    A job without a mask, or with one that keeps more than half of the products, is trained on ``dense``. How each pass
    of each layer runs follows from shapes and densities alone, so that the same job gives the same bits anywhere.
    """

    width = 1

    def __init__(self, setting: Setting, inputs: Tensor, probe: Probe, examples: int, dense: Eager) -> None:
        """``inputs`` is a small batch as the model takes it, ``examples`` the number of those to train on.

        Raises:
            InputError: the kernels cannot train this model.
        """
        self.device = setting.device
        self._setting = setting
        self._pixels = places(setting, inputs, probe)
        self._template = tensors_of(setting.template)
        self._prunable = tuple(prunable(setting.template))
        self._shape = inputs.shape[1:]
        self._examples = examples
        self._dense = dense
        self._model: SparseModel | None = None
        # What the job brought, with zeros where weights are pruned: all that the net does not hold stays as it is here.
        self._weights: dict[str, Tensor] = {}
        self._momentum: dict[str, Tensor] = {}
        self._steps = 0

    def load(self, jobs: Sequence[Job]) -> None:
        """Make the job's net, with its weights and momentum."""
        check_weights(self._setting.template, jobs, self.width)
        (job,) = jobs
        # Before the next one is made: a net of a large model takes gigabytes.
        self._model = None
        if job.mask is not None:
            self._check_mask(job.mask)
        if job.mask is None or arithmetic(job.mask, self._pixels, self._template) > _DENSE:
            self._dense.load(jobs)
            return
        trained = [name for name, p in self._setting.template.named_parameters() if p.requires_grad]
        self._weights = clones({n: job.weights[n].to(t.dtype) for n, t in self._template.items()})
        self._momentum = {}
        if self._setting.recipe.momentum:
            given = {n: (job.momentum or {}).get(n, torch.zeros(self._template[n].shape)) for n in trained}
            self._momentum = clones(given)
        for name, alive in job.mask.items():
            for held in (self._weights, self._momentum):
                if name in held:
                    held[name].masked_fill_(~alive, 0)
        examples = self._examples if job.split is None else len(job.split)
        batch = min(self._setting.recipe.batch_size, examples)
        self._model = SparseModel(self._setting.template, job.mask, self._shape, batch)
        self._model.load(self._weights, self._momentum)
        self._steps = 0

    def step(self, inputs: Tensor, targets: Tensor, lr: float, step: int) -> Tensor:
        """One step on the batch (1, B, ...), (1, B); the loss (1,)."""
        if self._model is None:
            return self._dense.step(inputs, targets, lr, step)
        recipe = self._setting.recipe
        loss = self._model.net.step(
            inputs[0],
            targets[0],
            lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
        self._steps += 1
        return torch.tensor([loss], dtype=torch.float32)

    def answers(self, inputs: Tensor) -> Tensor:
        """The ticket's classes (1, N)."""
        if self._model is None:
            return self._dense.answers(inputs)
        net = self._model.net
        return torch.cat([net.forward(part).argmax(1) for part in inputs.split(net.batch)])[None]

    def state(self, k: int) -> State:
        """Copies of the ticket's weights and momentum."""
        if self._model is None:
            return self._dense.state(k)
        assert k == 0
        weights = clones(self._weights) | self._model.read() | self._model.buffers()
        for norm in self._model.norms:
            weights[f"{norm}.num_batches_tracked"] += self._steps
        return State(weights, clones(self._momentum) | (self._model.read("momentum") if self._momentum else {}))

    def _check_mask(self, mask: Mask) -> None:
        mask.match(self._setting.template)
        if strange := sorted(set(mask) - set(self._prunable)):
            raise InputError(
                f"asked to train with a mask of {strange[0]!r}, got engine 'sparse', which masks weights of "
                "convolutions and linear layers only. Use tuned."
            )
