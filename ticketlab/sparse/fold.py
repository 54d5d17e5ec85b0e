"""Batch norm folded into the layer before it, in double precision."""

from __future__ import annotations

import copy
from collections import Counter
from typing import cast

import torch
from torch import Tensor, fx, nn

from ticketlab.sparse.tracing import is_torchs_own, traced_copy

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORM = nn.modules.batchnorm._BatchNorm


def folded(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy in eval mode without the batch norms that can be folded, and how many those were.

    Where torch.fx cannot trace the model, it is a plain copy. Weights that are zero stay zero.
    """
    plain = copy.deepcopy(model).eval()
    try:
        traced = traced_copy(plain)
    except Exception:
        # Whatever code of the user's own does with a proxy: it only means that nothing can be folded.
        return plain, 0
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    done = 0
    for norm in list(traced.graph.nodes):
        before = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not (isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1):
            continue
        # As it is now: two batch norms in a row go into the same layer.
        first, second = traced.get_submodule(str(before.target)), traced.get_submodule(str(norm.target))
        # A module that is called twice has to stay what it is for the other call.
        if not isinstance(second, _NORM) or max(calls[norm.target], calls[before.target]) > 1:
            continue
        if second.running_mean is None or not isinstance(first, _LAYERS) or not (_plain(first) and _plain(second)):
            continue
        owner, _, name = str(before.target).rpartition(".")
        setattr(traced.get_submodule(owner), name, _fused(first, second))
        norm.replace_all_uses_with(before)
        traced.graph.erase_node(norm)
        done += 1
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval(), done


def _plain(module: nn.Module) -> bool:
    """Whether a call computes what the module's parameters say: weight norms and pruning hooks write over them."""
    weight = module._parameters.get("weight")
    return is_torchs_own(module) and (weight is None or weight.is_floating_point())


def _fused(layer: nn.Module, norm: _NORM) -> nn.Module:
    """The layer with the norm's scale and shift in its weights, rounded once, at the end."""

    def double(value: Tensor | None, otherwise: float) -> Tensor:
        if value is None:
            return torch.full((norm.num_features,), otherwise, dtype=torch.float64)
        return value.detach().to("cpu", torch.float64)

    weight = cast(Tensor, layer.weight)
    scale = double(norm.weight, 1.0) / (double(norm.running_var, 1.0) + norm.eps).sqrt()
    bias = (
        double(norm.bias, 0.0)
        + (double(cast("Tensor | None", layer.bias), 0.0) - double(norm.running_mean, 0.0)) * scale
    )
    fused = copy.deepcopy(layer)
    for name, value in (
        ("weight", double(weight, 0.0) * scale.view(-1, *[1] * (weight.dim() - 1))),
        ("bias", bias),
    ):
        setattr(fused, name, nn.Parameter(value.to(weight), requires_grad=False))
    return fused
