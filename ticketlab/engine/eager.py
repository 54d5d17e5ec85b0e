"""One ticket at a time, op by op: the plain loop, and the same with everything that makes it faster."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ticketlab import seeding
from ticketlab.enforcement import Enforcement, enforce
from ticketlab.engine.convolution import small_maps_as_products
from ticketlab.engine.engine import (
    Probe,
    Setting,
    State,
    check_weights,
    in_channels_last,
    load_tensors,
    runs_in_channels_last,
)
from ticketlab.engine.job import Job, clones, tensors_of
from ticketlab.mask import Mask


@dataclass(frozen=True)
class Options:
    """What is done differently from the plain loop.

    Attributes:
        channels_last: images and filters with the channels innermost, the layout of the fast convolutions.
        fused: the optimizer's update in one kernel.
        products: convolutions on maps of 4x4 and below as im2col and a matrix product.
        compiled: forward and backward pass through torch.compile.
    """

    channels_last: bool = False
    fused: bool = False
    products: bool = False
    compiled: bool = False


class Eager:
    """Trains one ticket; the model, and what was compiled for it, serve for one ticket after another."""

    width = 1

    def __init__(self, setting: Setting, options: Options, inputs: Tensor, probe: Probe) -> None:
        """``inputs`` is a small batch as the model takes it, ``probe`` what the model did with it."""
        self.device = setting.device
        self._setting = setting
        self._options = options
        self._random = probe.random
        model = setting.model()
        if options.products:
            small_maps_as_products(model, inputs)
        self._channels_last = options.channels_last and runs_in_channels_last(model, inputs)
        self._model = in_channels_last(model) if self._channels_last else model
        self._full = setting.recipe.batch_size
        self._compiled = torch.compile(self._loss, dynamic=False) if options.compiled else self._loss
        self._optimizer: torch.optim.Optimizer | None = None
        self._guard: Enforcement | None = None
        # The masked parameters, each with 1.0 where a weight lives and 0.0 elsewhere.
        self._alive: list[tuple[Tensor, Tensor]] = []
        self._seed = 0

    def load(self, jobs: Sequence[Job]) -> None:
        """Put the job's ticket into the model, with a fresh optimizer."""
        check_weights(self._setting.template, jobs, self.width)
        (job,) = jobs
        if self._guard is not None:
            self._guard.remove()
        recipe = self._setting.recipe
        self._seed = job.seed
        load_tensors(self._model, job.weights)
        self._optimizer = torch.optim.SGD(
            self._model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
            fused=True if self._options.fused else None,
        )
        for name, parameter in self._model.named_parameters():
            if recipe.momentum and parameter.requires_grad:
                # Starting from zero is the same as having none, also where a parameter's first gradient comes late.
                buffer = torch.zeros_like(parameter)
                if name in (job.momentum or {}):
                    buffer.copy_((job.momentum or {})[name])
                self._optimizer.state[parameter]["momentum_buffer"] = buffer
        self._hold_pruned(job.mask)

    def step(self, inputs: Tensor, targets: Tensor, lr: float, step: int) -> Tensor:
        """One step on the batch (1, B, ...), (1, B); the loss (1,)."""
        assert self._optimizer is not None
        if self._random:
            seeding.reseed(self._seed, "dropout", step)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._model.train()
        # A compiled pass for the smaller last batch would cost as much again as the one for full batches.
        loss_of = self._compiled if inputs.shape[1] == self._full else self._loss
        with warnings.catch_warnings():
            if self._options.compiled:
                warnings.simplefilter("ignore")
            loss = loss_of(self._laid_out(inputs[0]), targets[0])
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if self._alive:
            # A parameter without a gradient takes no part in the loss, and no step either.
            pairs = [(p.grad, alive) for p, alive in self._alive if p.grad is not None]
            torch._foreach_mul_([slope for slope, _ in pairs], [alive for _, alive in pairs])
        self._optimizer.step()
        return loss.detach().view(1)

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> Tensor:
        """The ticket's classes (1, N)."""
        self._model.eval()
        with self._setting.arithmetic():
            found: Tensor = self._model(self._laid_out(inputs))
        return found.argmax(1)[None]

    def state(self, k: int) -> State:
        """Copies of the ticket's weights and momentum."""
        assert self._optimizer is not None and k == 0
        held = {n: self._optimizer.state.get(p, {}).get("momentum_buffer") for n, p in self._model.named_parameters()}
        for parameter, alive in self._alive:
            # After a divergence, infinity times zero is not zero.
            parameter.detach().masked_fill_(alive == 0, 0)
        return State(clones(tensors_of(self._model)), clones({n: t for n, t in held.items() if t is not None}))

    def _hold_pruned(self, mask: Mask | None) -> None:
        """See to it that pruned weights stay exactly zero.

        The plain loop leaves it to ``enforce``, which knows no optimizer. This SGD is known: pruned weights that start
        at zero, with zero momentum, stay there if their gradients are zero, and a product is the cheapest way to that.
        """
        self._alive = []
        assert self._optimizer is not None
        if mask is None:
            self._guard = None
            return
        # Attaching it zeroes weights and momentum, for either way.
        self._guard = enforce(self._model, mask, self._optimizer)
        if self._options.fused:
            self._guard.remove()
            self._alive = [(p, mask[n].to(p)) for n, p in mask.match(self._model).items()]

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        with self._setting.arithmetic():
            logits = self._model(inputs)
        return functional.cross_entropy(logits.float(), targets)

    def _laid_out(self, inputs: Tensor) -> Tensor:
        if self._channels_last:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs
