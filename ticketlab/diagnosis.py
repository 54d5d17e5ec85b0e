"""diagnose: what a mask does to a network's connections, before any training is spent on it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ticketlab import seeding
from ticketlab.mask import Mask
from ticketlab.parameters import find_parameters, unwrap

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass(frozen=True)
class Diagnosis:
    """The health of a mask.

    Attributes:
        sparsity: the fraction of weights removed.
        empty_layers: layers that keep no weight.
        dead_units: output units (rows, channels) through which no path runs from the input to the output, over all
            layers; None where paths cannot be traced.
        effective_sparsity: the fraction of weights that are removed or lie on no such path (Vysogorets & Kempe
            2021); None where paths cannot be traced.
    """

    sparsity: float
    empty_layers: tuple[str, ...]
    dead_units: int | None
    effective_sparsity: float | None

    def __str__(self) -> str:
        parts = [f"sparsity {self.sparsity:.4f}"]
        if self.effective_sparsity is not None:
            parts.append(f"effective {self.effective_sparsity:.4f}, {self.dead_units} dead units")
        if self.empty_layers:
            parts.append(f"empty layers: {', '.join(self.empty_layers)}")
        return "; ".join(parts)


def diagnose(model: nn.Module, mask: Mask, input_shape: tuple[int, ...] | None = None) -> Diagnosis:
    """Empty layers, dead units and effective sparsity of a mask on a model.

    Paths are traced by a forward and backward pass of a copy whose kept weights are one, in float64 and without
    norms, biases or dropout: a weight lies on a path if and only if the gradient of its weight is positive there.
    Where a net is not positively homogeneous (attention, sigmoids), or the input shape is unknown, only what can
    be counted is given.

    Raises:
        InputError: the mask does not fit the model.
    """
    mask.match(model)
    alive = None if input_shape is None else _on_paths(model, mask, input_shape)
    if alive is None:
        return Diagnosis(mask.sparsity, tuple(mask.empty_layers), None, None)
    dense = _on_paths(model, Mask.dense(mask), input_shape or ())
    effective = sum(int(a.sum()) for a in alive.values())
    dead = sum(int((~a.flatten(1).any(1)).sum()) for a in alive.values())
    if dense is None or not all(bool(d.flatten(1).any(1).all()) for d in dense.values()):
        return Diagnosis(mask.sparsity, tuple(mask.empty_layers), None, None)
    return Diagnosis(mask.sparsity, tuple(mask.empty_layers), dead, 1 - effective / mask.total)


def _on_paths(model: nn.Module, mask: Mask, input_shape: tuple[int, ...]) -> dict[str, Tensor] | None:
    """For each weight whether it is kept and lies on a path from input to output; None where that fails."""
    with seeding.isolated(0, "diagnose"), torch.inference_mode(False), torch.enable_grad():
        twin = copy.deepcopy(unwrap(model)).double().eval().requires_grad_(False)
        for module in twin.modules():
            # Not named_children(), which leaves out the second name of a norm that is used twice.
            for name, child in module._modules.items():
                if isinstance(child, _NORMS):
                    setattr(module, name, nn.Identity())
        for name, parameter in twin.named_parameters():
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        weights = find_parameters(twin, list(mask))
        for name, weight in weights.items():
            # Ones over the fan-in: activations keep their size however deep the net is.
            weight.copy_(mask[name].to(weight) / math.prod(weight.shape[1:]))
            weight.requires_grad_(True)
        ones = torch.ones((1, *input_shape), dtype=torch.float64, device=next(iter(weights.values())).device)
        try:
            grads = torch.autograd.grad(twin(ones).sum(), list(weights.values()), allow_unused=True)
            # What gives something for nothing (a sigmoid, a class token) would start paths of its own.
            if bool(twin(torch.zeros_like(ones)).any()):
                return None
        except Exception:
            # The forward pass is the user's code and may refuse these inputs in any way.
            return None
    if any(g is not None and not bool((torch.isfinite(g) & (g >= 0)).all()) for g in grads):
        return None
    return {
        name: mask[name] & (grad > 0).cpu() if grad is not None else torch.zeros_like(mask[name])
        for name, grad in zip(weights, grads, strict=True)
    }
