"""Batch norm folded into the convolution before it, so that dense engines are measured at their best."""

from __future__ import annotations

import copy
from collections import Counter

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORM = nn.modules.batchnorm._BatchNorm


def folded(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy in eval mode without the batch norms that can be folded, and how many those were.

    Where torch.fx cannot trace the model, it is a plain copy.
    """
    plain = copy.deepcopy(model).eval()
    try:
        traced = fx.symbolic_trace(plain)
    except Exception:
        # Whatever code of the user's own does with a proxy: it only means that nothing can be folded.
        return plain, 0
    modules = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    done = 0
    for norm in list(traced.graph.nodes):
        before = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not (isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1):
            continue
        first, second = modules[str(before.target)], modules[str(norm.target)]
        # A module that is called twice has to stay what it is for the other call.
        if not isinstance(second, _NORM) or max(calls[norm.target], calls[before.target]) > 1:
            continue
        if second.running_mean is None or not isinstance(first, (*_CONVOLUTIONS, nn.Linear)):
            continue
        owner, _, name = str(before.target).rpartition(".")
        fused = fuse_linear_bn_eval(first, second) if isinstance(first, nn.Linear) else fuse_conv_bn_eval(first, second)
        setattr(traced.get_submodule(owner), name, fused)
        norm.replace_all_uses_with(before)
        traced.graph.erase_node(norm)
        done += 1
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval(), done
