"""Several tickets on a GPU side by side: each ticket's step is one CUDA graph, replayed on a stream of its own.

A step of these small nets is bound by launching its few hundred kernels; a graph launches them at once, and the
graphs of several tickets fill the GPU together. Every ticket runs the kernels that it would run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab.engine.engine import Probe, Setting, State, check_weights, in_channels_last, runs_in_channels_last
from ticketlab.engine.job import Job, clones, tensors_of
from ticketlab.errors import InputError

_WARM_UPS = 3


class Device(Protocol):
    """What graphs need of a device; a CPU stands in for a GPU in tests by running what it is given."""

    def stream(self) -> AbstractContextManager[Any]:
        """A context in which work goes to one ticket's stream, after all that was given to the device before."""

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """A replay of the work, which reads and writes the same memory; the work was run a few times to warm up."""

    def join(self) -> None:
        """Let what comes next wait for all streams."""


class Cuda:
    """One CUDA stream, and graphs captured on it."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._device = device

    def stream(self) -> AbstractContextManager[Any]:
        """The ticket's stream, which first waits for the current one."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        return torch.cuda.stream(self._stream)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """The work as a CUDA graph."""
        with self.stream():
            for _ in range(_WARM_UPS):
                work()
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            work()
        replay: Callable[[], None] = graph.replay
        return replay

    def join(self) -> None:
        """The current stream waits for the ticket's."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


class Direct:
    """The stand-in: runs the work where it is."""

    def stream(self) -> AbstractContextManager[Any]:
        """Nothing to switch to."""
        return nullcontext()

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Warm-ups as on a GPU, since they change what the work writes to."""
        for _ in range(_WARM_UPS):
            work()
        return work

    def join(self) -> None:
        """Nothing to wait for."""


class Graphs:
    """Trains up to ``width`` tickets, each in a slot with memory of its own that never moves."""

    def __init__(
        self,
        setting: Setting,
        width: int,
        inputs: Tensor,
        probe: Probe,
        device: Callable[[torch.device], Device] | None = None,
    ) -> None:
        if device is None and setting.device.type != "cuda":
            raise InputError(f"asked for engine 'graph:{width}' on {setting.device.type}, got an engine for cuda only.")
        self.width = width
        self.device = setting.device
        self._setting = setting
        del probe
        last = runs_in_channels_last(setting.model(), inputs)
        self._slots = [_Slot(setting, last, (device or Cuda)(setting.device)) for _ in range(width)]
        self._used = 0

    def load(self, jobs: Sequence[Job]) -> None:
        """Copy the tickets into the slots."""
        check_weights(self._setting.template, jobs, self.width)
        self._used = len(jobs)
        for slot, job in zip(self._slots, jobs, strict=False):
            slot.load(job)

    def step(self, inputs: Tensor, targets: Tensor, lr: float, step: int) -> Tensor:
        """One step of every ticket on its batch (K, B, ...), (K, B); the losses (K,)."""
        slots = self._slots[: self._used]
        for k, slot in enumerate(slots):
            slot.step(inputs[k], targets[k], lr)
        for slot in slots:
            slot.place.join()
        return torch.stack([slot.loss for slot in slots])

    def answers(self, inputs: Tensor) -> Tensor:
        """Each ticket's classes (K, N) for inputs (N, ...)."""
        return torch.stack([slot.answers(inputs) for slot in self._slots[: self._used]])

    def state(self, k: int) -> State:
        """Copies of the k-th ticket's weights and momentum."""
        return self._slots[k].state()


class _Slot:
    def __init__(self, setting: Setting, channels_last: bool, place: Device) -> None:
        self.place = place
        self._setting = setting
        model: nn.Module = setting.model()
        self._model = in_channels_last(model) if channels_last else model
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._parameters = dict(self._model.named_parameters())
        # A parameter that the user froze has no gradient, and asking for one is an error.
        self._trained = {n: p for n, p in self._parameters.items() if p.requires_grad}
        self._momentum = {n: torch.zeros_like(p) for n, p in self._parameters.items()}
        self._alive = {n: torch.ones_like(p) for n, p in self._parameters.items()}
        self._rate = torch.zeros((), device=setting.device)
        self.loss = torch.zeros((), device=setting.device)
        # For each size of batch: its memory, and the replay of the step on it.
        self._steps: dict[int, tuple[Tensor, Tensor, Callable[[], None]]] = {}

    @torch.no_grad()
    def load(self, job: Job) -> None:
        for name, tensor in tensors_of(self._model).items():
            tensor.copy_(job.weights[name])
        for name, parameter in self._parameters.items():
            self._alive[name].fill_(1.0)
            if job.mask is not None and name in job.mask:
                self._alive[name].copy_(job.mask[name])
            self._momentum[name].zero_()
            if job.momentum is not None and name in job.momentum:
                self._momentum[name].copy_(job.momentum[name])
            for held in (parameter, self._momentum[name]):
                held.masked_fill_(self._alive[name] == 0, 0)

    def step(self, inputs: Tensor, targets: Tensor, lr: float) -> None:
        if len(inputs) not in self._steps:
            self._steps[len(inputs)] = self._capture(inputs, targets)
        own_inputs, own_targets, replay = self._steps[len(inputs)]
        with self.place.stream():
            own_inputs.copy_(inputs)
            own_targets.copy_(targets)
            self._rate.fill_(lr)
            replay()

    def _capture(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Callable[[], None]]:
        own = inputs.clone(memory_format=self._layout)
        labels = targets.clone()
        # All buffers, those too that the model does not save.
        state = [*self._parameters.values(), *self._model.buffers(), *self._momentum.values()]
        before = [t.detach().clone() for t in state]
        try:
            replay = self.place.captured(lambda: self._train(own, labels))
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise InputError(
                "asked for an engine of CUDA graphs, got a model whose step cannot be captured as one: "
                f"{_reason(error)} Use tuned or compiled."
            ) from error
        with torch.no_grad():
            # Warming up has trained the ticket: back to where it stood.
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
        return own, labels, replay

    def _train(self, inputs: Tensor, targets: Tensor) -> None:
        recipe = self._setting.recipe
        with self._setting.arithmetic():
            logits = self._model(inputs)
        loss = functional.cross_entropy(logits.float(), targets)
        slopes = torch.autograd.grad(loss, list(self._trained.values()), allow_unused=True)
        names = [n for n, slope in zip(self._trained, slopes, strict=True) if slope is not None]
        grads = [slope for slope in slopes if slope is not None]
        with torch.no_grad():
            self.loss.copy_(loss)
            weights: list[Tensor] = [self._parameters[n] for n in names]
            momentum = [self._momentum[n] for n in names]
            torch._foreach_mul_(grads, [self._alive[n] for n in names])
            torch._foreach_add_(grads, weights, alpha=recipe.weight_decay)
            torch._foreach_mul_(momentum, recipe.momentum)
            torch._foreach_add_(momentum, grads)
            if recipe.nesterov:
                torch._foreach_add_(grads, momentum, alpha=recipe.momentum)
            steps = torch._foreach_mul(grads if recipe.nesterov else momentum, self._rate)
            torch._foreach_sub_(weights, steps)

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> Tensor:
        self._model.eval()
        with self._setting.arithmetic():
            found: Tensor = self._model(inputs).argmax(1)
        self._model.train()
        return found

    @torch.no_grad()
    def state(self) -> State:
        for name, parameter in self._parameters.items():
            # After a divergence, infinity times zero is not zero.
            parameter.masked_fill_(self._alive[name] == 0, 0)
        return State(clones(tensors_of(self._model)), clones(self._momentum) if self._setting.recipe.momentum else {})


def _reason(error: BaseException) -> str:
    """What went wrong first: ending a capture that is broken fails again, and says less."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
