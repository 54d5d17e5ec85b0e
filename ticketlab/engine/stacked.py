"""Several tickets as one: their parameters stacked, the whole step of all of them compiled into one program.

For tiny nets, where a step is mostly the overhead of its many small operations. Masks are inputs of the program, so
that one compilation serves every ticket.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from ticketlab.engine.engine import Probe, Setting, State, check_weights
from ticketlab.engine.job import Job, clones, tensors_of
from ticketlab.engine.pooling import pool_by_comparison
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.parameters import prunable

Tensors = dict[str, Tensor]


class Stacked:
    """Trains ``width`` tickets in one program. Free places are filled with copies of the first ticket.

    The program's width never changes, so that a ticket's result cannot depend on how many it is packed with.
    """

    def __init__(self, setting: Setting, width: int, inputs: Tensor, probe: Probe, compiled: bool = True) -> None:
        self.width = width
        self.device = setting.device
        self._setting = setting
        self._model = setting.model()
        pool_by_comparison(self._model)
        if setting.precision == "bf16":
            _normalise_in_fp32(self._model)
        self._prunable = tuple(prunable(self._model))
        # As with an optimizer: what no gradient reaches is left alone, by weight decay too.
        self._unused = probe.unused
        # Every entry of the state dict, and the name that the tensor goes by here.
        own = {id(t): n for n, t in reversed([*self._model.named_parameters(), *self._model.named_buffers()])}
        state = self._model.state_dict(keep_vars=True).items()
        self._names = {n: own[id(t)] for n, t in state if isinstance(t, Tensor)}
        self._full = setting.recipe.batch_size
        self._update = _update(self._model, setting)
        self._program = torch.compile(self._update, dynamic=False, fullgraph=True) if compiled else self._update
        self._rate = torch.zeros((), device=setting.device)
        self._parameters: Tensors = {}
        self._buffers: Tensors = {}
        self._momentum: Tensors = {}
        self._masks: Tensors = {}
        try:
            # Without the compiler: what the transforms refuse is refused now, before the compiler takes its time.
            self.load([Job(clones(tensors_of(self._model)), None, 0)])
            targets = torch.zeros(1, len(inputs), dtype=torch.int64, device=self.device)
            self._run(self._update, inputs[None], targets, 0.0)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            raise InputError(
                f"asked for engine 'stacked:{width}', got a model that torch.func cannot stack: "
                f"{(str(error).strip().splitlines() or ['no reason given'])[0][:200]} Use tuned or compiled."
            ) from error

    def load(self, jobs: Sequence[Job]) -> None:
        """Stack the tickets' weights, masks and momentum."""
        check_weights(self._model, jobs, self.width)
        filled = [*jobs, *[jobs[0]] * (self.width - len(jobs))]
        parameters = {n: p for n, p in self._model.named_parameters() if p.requires_grad and n not in self._unused}
        # Frozen parameters are inputs that no step changes, as buffers are. Of tied tensors, the first name counts.
        buffers = [n for n in dict.fromkeys(self._names.values()) if n not in parameters]

        def stack(values: Sequence[Tensor]) -> Tensor:
            return torch.stack([v.detach().cpu() for v in values]).to(self.device)

        for job in jobs:
            if job.mask is not None:
                job.mask.match(self._model)
                if strange := sorted(set(job.mask) - set(self._prunable)):
                    raise InputError(
                        f"asked to train with a mask of {strange[0]!r}, got engine 'stacked:{self.width}', which masks "
                        "weights of convolutions and linear layers only. Use tuned or compiled."
                    )
        dense = Mask.dense(prunable(self._model))
        self._masks = {n: stack([(job.mask or dense).get(n, dense[n]) for job in filled]) for n in dense}
        self._parameters = {n: stack([job.weights[n] for job in filled]) for n in parameters}
        self._buffers = {n: stack([job.weights[n] for job in filled]) for n in buffers}
        zeros = {n: torch.zeros(p.shape) for n, p in parameters.items()}
        self._momentum = {n: stack([(job.momentum or zeros).get(n, zeros[n]) for job in filled]) for n in parameters}
        for n, mask in self._masks.items():
            for held in (self._parameters, self._buffers, self._momentum):
                if n in held:
                    held[n].masked_fill_(~mask, 0)

    def step(self, inputs: Tensor, targets: Tensor, lr: float, step: int) -> Tensor:
        """One step of every ticket on its batch (K, B, ...), (K, B); the losses (K,)."""
        # Another program for the smaller last batch would cost as much again as the one for full batches.
        program = self._program if inputs.shape[1] == self._full else self._update
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._run(program, inputs, targets, lr)

    def _run(self, program: Callable[..., Any], inputs: Tensor, targets: Tensor, lr: float) -> Tensor:
        tickets = len(inputs)
        inputs, targets = self._filled(inputs), self._filled(targets)
        rate = self._rate.fill_(lr)
        with torch.no_grad():
            self._parameters, self._momentum, self._buffers, losses = program(
                self._parameters, self._momentum, self._buffers, self._masks, inputs, targets, rate
            )
        found: Tensor = losses[:tickets]
        return found

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> Tensor:
        """Each ticket's classes (K, N) for inputs (N, ...)."""
        self._model.eval()

        def one(parameters: Tensors, buffers: Tensors) -> Tensor:
            with self._setting.arithmetic():
                found: Tensor = functional_call(self._model, (parameters, buffers), (inputs,))
            return found.argmax(1)

        found: Tensor = vmap(one)(self._parameters, self._buffers)
        self._model.train()
        return found

    def state(self, k: int) -> State:
        """Copies of the k-th ticket's weights and momentum."""
        held = {**self._parameters, **self._buffers}
        momentum = self._momentum if self._setting.recipe.momentum else {}
        return State(
            clones({n: held[own][k] for n, own in self._names.items()}), clones({n: t[k] for n, t in momentum.items()})
        )

    def _filled(self, tensor: Tensor) -> Tensor:
        free = self.width - len(tensor)
        return torch.cat([tensor, tensor[:1].expand(free, *tensor.shape[1:])]) if free else tensor


def _normalise_in_fp32(model: nn.Module) -> None:
    """Let batch norm take its inputs in fp32: stacked, it cannot mix them with weights of another precision."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))


def _update(model: nn.Module, setting: Setting) -> Callable[..., tuple[Tensors, Tensors, Tensors, Tensor]]:
    """The step of a stack: SGD with momentum as torch.optim.SGD does it, on the gradients of the weights that live."""
    recipe = setting.recipe

    def loss(parameters: Tensors, buffers: Tensors, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
        # Batch norm writes its running statistics in place: into copies, which are handed back.
        buffers = {n: b.clone() for n, b in buffers.items()}
        with setting.arithmetic():
            logits = functional_call(model, (parameters, buffers), (inputs,))
        found = functional.cross_entropy(logits.float(), targets)
        return found, (found, buffers)

    gradients = vmap(grad(loss, has_aux=True), randomness="error")

    def update(
        parameters: Tensors,
        momentum: Tensors,
        buffers: Tensors,
        masks: Mapping[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        rate: Tensor,
    ) -> tuple[Tensors, Tensors, Tensors, Tensor]:
        found, (losses, new_buffers) = gradients(parameters, buffers, inputs, targets)
        new, velocities = {}, {}
        for name, weight in parameters.items():
            slope = torch.where(masks[name], found[name], 0.0) if name in masks else found[name]
            slope = slope + recipe.weight_decay * weight
            velocity = recipe.momentum * momentum[name] + slope
            velocities[name] = velocity
            new[name] = weight - rate * (slope + recipe.momentum * velocity if recipe.nesterov else velocity)
        return new, velocities, new_buffers, losses

    return update
