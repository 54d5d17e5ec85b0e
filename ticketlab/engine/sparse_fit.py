"""What the sparse engine can train, found out before it trains anything."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ticketlab.engine.engine import Probe, Setting
from ticketlab.errors import InputError
from ticketlab.sparse.library import library
from ticketlab.sparse.model import SparseModel
from ticketlab.sparse.trace import traced

# Of the outputs' size; the kernels' rounding is a thousandth of that, and another function's outputs are far from it.
_ALIKE = 1e-3
# Of the weights of the net that is tried out; more would only take longer.
_KEPT = 0.1
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def places(setting: Setting, inputs: Tensor, probe: Probe) -> dict[str, int]:
    """How often each masked weight of a layer is used for one image, by parameter: the pixels of the layer's output.

    Args:
        inputs: two examples as the model takes them.

    Raises:
        InputError: the kernels cannot be had, or cannot train this model in this setting, and why.
    """
    if setting.device.type != "cpu":
        raise _refused(f"device {setting.device}: its kernels run on CPUs only")
    if setting.precision != "fp32":
        raise _refused(f"precision {setting.precision}: its kernels compute in fp32 only")
    if probe.random:
        raise _refused("a model that draws random numbers in its forward pass (dropout)")
    model = setting.model()
    _check_parameters(model)
    if any(getattr(module, hooks) for module in model.modules() for hooks in _HOOKS):
        raise _refused("a model with hooks, which its kernels would not run")
    in_training = traced(model)
    if not all(module.training for module in model.modules()):
        raise _refused("a model whose parts do not all go into training mode")
    if traced(model.eval()) != in_training:
        raise _refused("a model that has other layers in training than in evaluation")
    # Half a minute with a compiler, where these kernels were never built; so it comes after what costs nothing.
    library()
    return _agreed(model, inputs)


def _check_parameters(model: nn.Module) -> None:
    seen: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.dtype != torch.float32:
            raise _refused(f"{name!r} in {parameter.dtype}: its kernels compute in fp32 only")
        if not parameter.requires_grad:
            raise _refused(f"{name!r} frozen (requires_grad is False): its kernels train every parameter")
        if id(parameter) in seen:
            raise _refused(f"{name!r} tied to {seen[id(parameter)]!r}: its kernels hold every parameter once")
        seen[id(parameter)] = name


@torch.no_grad()
def _agreed(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """The pixels, after a look at whether the kernels answer as the model does."""
    draw = torch.Generator().manual_seed(0)
    pixels: dict[str, int] = {}
    hooks = []
    mask: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            _unlike_others(module, draw)
        if isinstance(module, nn.Conv2d | nn.Linear) and (weight := module._parameters.get("weight")) is not None:
            alive = mask[f"{name}.weight"] = torch.rand(weight.shape, generator=draw) < _KEPT
            # As large as with all of them: in a deep net nothing of the inputs would be left else.
            weight.mul_(alive / math.sqrt(_KEPT))

            def look(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
                pixels[f"{name}.weight"] = out[0, 0].numel()

            hooks.append(module.register_forward_hook(look))
    wanted = model(inputs)
    # The kernels refuse a model with hooks.
    for hook in hooks:
        hook.remove()
    sparse = SparseModel(model, mask, inputs.shape[1:], len(inputs))
    strange = sorted({*sparse.parameters} - {name for name, _ in model.named_parameters()})
    if strange:
        raise _refused(f"{strange[0]!r} computed from other parameters")
    sparse.load(model.state_dict())
    found = sparse.net.forward(inputs)
    size = float(wanted.abs().max())
    if found.shape != wanted.shape or not torch.allclose(found, wanted, 0.0, _ALIKE * size + 1e-6, equal_nan=True):
        raise _refused("a model whose answers its kernels do not give: it does more than its layers say")
    return {name: pixels[name] for name in sparse.parameters if name in pixels}


def _unlike_others(norm: nn.modules.batchnorm._BatchNorm, draw: torch.Generator) -> None:
    """Statistics and scales as after a training: a fresh batch norm does nothing, wherever it stands."""
    for tensor, least in ((norm.running_mean, -0.5), (norm.running_var, 0.5), (norm.weight, 0.5), (norm.bias, -0.5)):
        if tensor is not None:
            tensor.copy_(torch.rand(tensor.shape, generator=draw) + least)


def arithmetic(mask: Mapping[str, Tensor], pixels: Mapping[str, int], shapes: Mapping[str, Tensor]) -> float:
    """The share of a dense net's products that a mask keeps, in [0, 1]; layers that it does not name are dense."""
    dense = {name: shapes[name].numel() * count for name, count in pixels.items()}
    kept = {name: int(mask[name].sum()) * count if name in mask else dense[name] for name, count in pixels.items()}
    return sum(kept.values()) / max(1, sum(dense.values()))


def _refused(got: str) -> InputError:
    return InputError(f"asked for engine 'sparse', got {got}. Use tuned.")
