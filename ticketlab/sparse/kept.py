"""A ticket whose parameters are its kept weights: any optimiser of torch trains it, with state for nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.sparse.model import SparseModel


class KeptWeights(nn.Module):
    """A model under a mask, trained on the sparse kernels by a loop and an optimiser of one's own.

    Its parameters are one vector for each parameter of the model, of the weights that live (biases and batch norm
    whole), so that nothing has to hold pruned weights at zero, and an optimiser's state and weight decay know kept
    weights only. ``state()`` gives the model's own weights back.

    Args:
        model: the architecture and the weights to start from; it is not changed.
        mask: True where a weight lives, by parameter name; layers that it does not name are dense.
        shape: of one input.
        batch: the most inputs of a step.

    Raises:
        InputError: no native kernels here, a layer that they do not know, or a mask that does not fit.
    """

    def __init__(self, model: nn.Module, mask: Mapping[str, Tensor], shape: Sequence[int], batch: int) -> None:
        super().__init__()
        checked = mask if isinstance(mask, Mask) else Mask(mask)
        checked.match(model)
        self._sparse = SparseModel(model, checked, shape, batch)
        self._sparse.load(model.state_dict())
        self.names = self._sparse.parameters
        self.kept = nn.ParameterList([nn.Parameter(self._sparse.read_kept(name)) for name in self.names])
        # Gradients exist for the last pass alone: the kernels hold one set of activations.
        self._passes = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs for a batch; in training mode with gradients for the parameters, once, before the next pass.

        Raises:
            InputError: more inputs than ``batch`` in training mode, other shapes, or inputs that want gradients.
        """
        if inputs.requires_grad and torch.is_grad_enabled():
            raise InputError("asked for gradients of the inputs, got kept weights, which have only their own.")
        self._passes += 1
        if self.training:
            found: Tensor = _Pass.apply(self, inputs, *self.kept)  # type: ignore[no-untyped-call]
            return found
        self._write(self.kept)
        return torch.cat([self._sparse.net.forward(part) for part in inputs.split(self._sparse.net.batch)])

    def state(self) -> dict[str, Tensor]:
        """Weights and running statistics under the model's names, zeros where weights are pruned."""
        self._write(self.kept)
        return self._sparse.read() | self._sparse.buffers()

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: running statistics live in native memory. Use ``state``."""
        raise InputError("asked for a state dict, got kept weights: their state() loads into the model itself.")

    def _write(self, kept: Sequence[Tensor] | nn.ParameterList) -> None:
        for name, values in zip(self.names, kept, strict=True):
            self._sparse.write_kept(name, values)


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, held: KeptWeights, inputs: Tensor, *kept: Tensor) -> Tensor:
        held._write(kept)
        ctx.held, ctx.number = held, held._passes
        return held._sparse.net.forward(inputs, training=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        held = ctx.held
        if ctx.number != held._passes:
            raise InputError(
                f"asked for gradients of pass {ctx.number}, got kernels that hold pass {held._passes} now."
            )
        held._sparse.net.backward(gradient)
        return None, None, *(held._sparse.read_kept(name, "gradient") for name in held.names)
