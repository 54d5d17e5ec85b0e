"""A torch model as a sparse net: the same names, the same mathematics, the cost of what its mask keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ticketlab.sparse.net import Choice, Kind, Lanes, Net, Norm, Part
from ticketlab.sparse.nodes import padding
from ticketlab.sparse.steps import Selection, Step
from ticketlab.sparse.trace import traced


class SparseModel:
    """One ticket, to be trained or asked on the sparse kernels.

    Args:
        model: the architecture; its weights are not used. The model is not changed.
        mask: True where a weight lives; layers that it does not name are dense.
        shape: of one input.
        batch: the most inputs of a step.
        training: whether it is to be trained, or only asked.
        lanes: see ``Net``.
        choices: how each pass of each layer runs (``choices`` of another model); None takes the usual ones.

    Raises:
        InputError: no native kernels here, a layer that they do not know or that is used twice, a mask that does not
            fit.
    """

    def __init__(
        self,
        model: nn.Module,
        mask: Mapping[str, Tensor],
        shape: Sequence[int],
        batch: int,
        *,
        choices: Mapping[tuple[int, str], Choice] | None = None,
        instructions: str | None = None,
        training: bool = True,
        lanes: Lanes = "images",
    ) -> None:
        self.steps = traced(model)
        self.net = Net(shape, batch, instructions=instructions, training=training, lanes=lanes)
        modules = dict(model.named_modules())
        # Layer of the net and part of it, by the parameter's name.
        self._parameters: dict[str, tuple[int, Part]] = {}
        self._norms: dict[str, int] = {}
        for number, step in enumerate(self.steps):
            if step.maximum is not None:
                of = step.maximum
                self.net.maximum(step.source, of.kernel, of.stride, of.padding, ceil=of.ceil)
            elif step.module is None and step.selection is None:
                self.net.average(step.source)
            else:
                self._add(number, step, modules, mask)
        self.net.build()
        for (layer, which), choice in (choices or {}).items():
            self.net.choose(layer, which, choice)

    def _add(self, number: int, step: Step, modules: Mapping[str, nn.Module], mask: Mapping[str, Tensor]) -> None:
        kept, more = self._constant(step.selection) if step.selection else self._weights(number, step, modules, mask)
        norm = None
        if step.norm is not None:
            held = cast(nn.BatchNorm2d, modules[step.norm])
            norm = Norm(held.eps, cast(float, held.momentum), held.affine)
            self._norms[step.norm] = number
            if held.affine:
                self._parameters[f"{step.norm}.weight"] = (number, "gamma")
                self._parameters[f"{step.norm}.bias"] = (number, "beta")
        self.net.layer(
            step.source,
            kept,
            norm=norm,
            residual=step.residual,
            relu=step.relu,
            pool=step.pool,
            **more,  # type: ignore[arg-type]
        )

    def _weights(
        self, number: int, step: Step, modules: Mapping[str, nn.Module], mask: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, object]]:
        """Where the weights of a layer live, and what else the net wants to know of it."""
        name = step.module or ""
        module = cast("nn.Conv2d | nn.Linear", modules[name])
        weight = f"{name}.weight"
        self._parameters[weight] = (number, "weight")
        more: dict[str, object] = {"bias": module.bias is not None}
        if module.bias is not None:
            self._parameters[f"{name}.bias"] = (number, "bias")
        if isinstance(module, nn.Conv2d):
            more |= {key: getattr(module, key) for key in ("stride", "dilation", "groups")}
            more["padding"] = padding(module)
        kept = mask.get(weight)
        return torch.ones(module.weight.shape, dtype=torch.bool) if kept is None else kept, more

    def _constant(self, of: Selection) -> tuple[Tensor, dict[str, object]]:
        return of.mask(), {"stride": of.stride, "padding": of.padding, "groups": of.groups, "frozen": True}

    @property
    def choices(self) -> dict[tuple[int, str], Choice]:
        """How each pass of each layer runs; another model of the same mask given these computes the same bits."""
        return {(layer, which): self.net.choice(layer, which) for layer in self.net.layers for which in self.net.passes}

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that it holds; others take no part in the outputs."""
        return tuple(self._parameters)

    @property
    def norms(self) -> tuple[str, ...]:
        """The names of its batch norms."""
        return tuple(self._norms)

    def load(self, weights: Mapping[str, Tensor], momentum: Mapping[str, Tensor] | None = None) -> None:
        """Take a state dict, and the momentum of its parameters (zero where there is none)."""
        for name, (layer, part) in self._parameters.items():
            self.net.write(layer, part, weights[name])
            held = (momentum or {}).get(name)
            self.net.write(layer, part, torch.zeros_like(weights[name]) if held is None else held, "momentum")
        for name, layer in self._norms.items():
            self.net.set_statistics(layer, weights[f"{name}.running_mean"], weights[f"{name}.running_var"])

    def read(self, kind: Kind = "value") -> dict[str, Tensor]:
        """All parameters, their momentum or their gradients by name; zeros where weights are pruned."""
        return {name: self.net.read(layer, part, kind) for name, (layer, part) in self._parameters.items()}

    def read_kept(self, name: str, kind: Kind = "value") -> Tensor:
        """The kept weights of a parameter, or all of a bias or of batch norm, in one dimension."""
        layer, part = self._parameters[name]
        return self.net.read_kept(layer, part, kind)

    def write_kept(self, name: str, values: Tensor) -> None:
        """Set them."""
        layer, part = self._parameters[name]
        self.net.write_kept(layer, part, values)

    def buffers(self) -> dict[str, Tensor]:
        """Running statistics by name; how many batches they saw is left to the caller."""
        found = {}
        for name, layer in self._norms.items():
            found[f"{name}.running_mean"], found[f"{name}.running_var"] = self.net.statistics(layer)
        return found
