"""Pruned weights stay exactly zero while an optimizer runs."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ticketlab.mask import Mask


class Enforcement:
    """Keeps a model's pruned weights at exactly 0.0; made by :func:`enforce`.

    Before each step the gradients of pruned weights are zeroed, so that they reach neither momentum nor second
    moments; after each step the weights are zeroed, whatever the optimizer did. Optimizer state that was built
    up before the mask came is cleared at pruned positions, on attaching and after ``load_state_dict``.
    """

    def __init__(self, model: nn.Module, mask: Mask, optimizer: Optimizer) -> None:
        self.mask = mask
        self._optimizer = optimizer
        self._pruned = [(p, ~mask[n].to(p.device)) for n, p in mask.match(model).items()]
        self._zero_weights()
        self._zero_state()
        self._handles = [
            optimizer.register_step_pre_hook(lambda _, args, kwargs: self._before_step(args, kwargs)),
            optimizer.register_step_post_hook(lambda *_: self._zero_weights()),
            optimizer.register_load_state_dict_post_hook(lambda *_: self._zero_state()),
        ]

    def _before_step(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Zero the gradients that are there; with a closure (LBFGS), also those that it computes."""
        self._zero_gradients()
        # The optimizer itself comes first among the arguments.
        if len(args) > 1 and callable(args[1]):
            return (args[0], self._wrapped(args[1]), *args[2:]), kwargs
        if callable(kwargs.get("closure")):
            return args, {**kwargs, "closure": self._wrapped(kwargs["closure"])}
        return None

    def _wrapped(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        def evaluate() -> Any:
            self._zero_weights()
            loss = closure()
            self._zero_gradients()
            return loss

        return evaluate

    def _zero_gradients(self) -> None:
        for parameter, pruned in self._pruned:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(pruned, 0)

    @torch.no_grad()
    def _zero_weights(self) -> None:
        for parameter, pruned in self._pruned:
            parameter.masked_fill_(pruned, 0)

    @torch.no_grad()
    def _zero_state(self) -> None:
        for parameter, pruned in self._pruned:
            state: dict[str, Any] = self._optimizer.state.get(parameter, {})
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(pruned.to(value.device), 0)

    def violations(self) -> int:
        """The number of pruned weights that are not exactly zero (always 0, unless something else wrote to them)."""
        return sum(int(torch.count_nonzero(p.detach()[pruned])) for p, pruned in self._pruned)

    def remove(self) -> None:
        """Stop enforcing. The weights stay as they are."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> Enforcement:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def enforce(model: nn.Module, mask: Mask, optimizer: Optimizer) -> Enforcement:
    """Zero the pruned weights now and keep them at exactly zero through every ``optimizer.step()``.

    Works with any optimizer (momentum, Adam, decoupled weight decay, foreach and fused forms) and through
    DistributedDataParallel, torch.compile and autocast, as nothing is put into the model: its modules,
    ``state_dict`` and copies are plain. An averaged copy (EMA) that starts from the masked model stays zero too;
    one that started earlier needs one ``mask.apply_(ema_model)``. A deep copy of the *optimizer* has no hooks
    (torch drops them), so call ``enforce`` again for it.

    Returns:
        A handle with ``remove()`` and ``violations()``; also a context manager.

    Raises:
        InputError: the mask does not fit the model.
    """
    return Enforcement(model, mask, optimizer)
