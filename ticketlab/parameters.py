"""Which parameters may be pruned: conv and linear weights, each tensor once, in the model's own order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.parameter import is_lazy

from ticketlab.errors import InputError

Filter = Callable[[str, nn.Parameter], bool]

_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_WRAPPERS = ("module.", "_orig_mod.")


def prunable(model: nn.Module, where: Filter | None = None) -> dict[str, nn.Parameter]:
    """The weights that a mask may cover, as ``{name: parameter}``.

    Names and order are those of ``model.named_parameters()``; a tied tensor appears once, under its first name.
    Covered are the weights of linear, convolution and transposed-convolution layers (and their subclasses) and
    the input projections of ``nn.MultiheadAttention``. Biases, norms and embeddings are never pruned.

    Args:
        where: ``(name, parameter) -> bool``; keeps only the weights for which it is true.

    Raises:
        InputError: the model has no such weight, or the filter leaves none.
    """
    weights = {id(weight) for module in model.modules() for weight in _layer_weights(module)}
    found = {name: p for name, p in model.named_parameters() if id(p) in weights}
    if not found:
        raise InputError(
            f"asked to prune {type(model).__name__}, got a model with no prunable weights: "
            "it needs at least one convolution or linear layer."
        )
    lazy = [name for name, p in found.items() if is_lazy(p)]
    if lazy:
        raise InputError(f"asked to prune {lazy[0]!r}, got a lazy layer without a shape. Run the model once first.")
    chosen = {name: p for name, p in found.items() if where is None or where(name, p)}
    if not chosen:
        raise InputError(f"asked to prune only what the filter admits, got 0 of {len(found)} weights: {_few(found)}.")
    return chosen


def _layer_weights(module: nn.Module) -> Iterator[nn.Parameter]:
    if isinstance(module, _LAYERS):
        # A parametrised layer (weight norm, spectral norm) computes its weight: there is no tensor to mask.
        weight = module._parameters.get("weight")
        if isinstance(weight, nn.Parameter):
            yield weight
    elif isinstance(module, nn.MultiheadAttention):
        for name in _ATTENTION:
            weight = getattr(module, name, None)
            if isinstance(weight, nn.Parameter):
                yield weight


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside DistributedDataParallel, DataParallel or torch.compile wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module) and isinstance(
            model, (nn.DataParallel, nn.parallel.DistributedDataParallel)
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def bare(name: str) -> str:
    """A parameter's name without the prefixes that wrappers put before it."""
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def find_parameters(model: nn.Module, names: list[str]) -> dict[str, nn.Parameter]:
    """The named parameters of a model, also through wrappers; tied names resolve to their tensor.

    Raises:
        InputError: a name is not in the model.
    """
    exact = dict(model.named_parameters(remove_duplicate=False))
    by_bare = {bare(name): p for name, p in exact.items()}
    found = {}
    for name in names:
        parameter = exact.get(name)
        if parameter is None:
            parameter = by_bare.get(bare(name))
        if parameter is None:
            raise InputError(
                f"the mask covers {name!r}, but the model has no such parameter; its weights are {_few(exact)}."
            )
        found[name] = parameter
    return found


def _few(names: dict[str, nn.Parameter], limit: int = 5) -> str:
    shown = ", ".join(list(names)[:limit])
    return shown + (f", ... ({len(names)} in all)" if len(names) > limit else "")
