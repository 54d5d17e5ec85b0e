"""How a folded network runs for inputs of one shape: a path for each batch size, and nets that batch sizes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, fx, nn

from ticketlab.errors import InputError
from ticketlab.sparse import dense_paths
from ticketlab.sparse.faster import fastest
from ticketlab.sparse.model import SparseModel
from ticketlab.sparse.net import Lanes, Net
from ticketlab.sparse.removal import without_idle_channels
from ticketlab.sparse.simplify import with_global_means, without_dropout
from ticketlab.sparse.trace import traced
from ticketlab.sparse.tune import tune

# More inputs than that run in parts: their activations would leave the caches. Decisions are made for powers of two up
# to it, each on a net of one of these sizes, since tuning takes longer than deciding.
LARGEST = 64
_NETS = (1, 16, LARGEST)
# Up to so many images it may be faster to fill vectors with neighbouring pixels; up to so few it usually is.
_PIXELS, SURELY_PIXELS = 8, 4
_NAMES: dict[Lanes, str] = {"images": "sparse", "pixels": "sparse, pixels in lanes"}
# Of the largest output. Another order of summation differs by a hundredth of that; more means another function.
_TOLERANCE = 1e-3
_CHANNELS_LAST, _CSR = "dense, channels last", "dense, linear layers as CSR"


@dataclass(frozen=True)
class Plan:
    """How a batch runs.

    Attributes:
        path: in words, with the reason.
        sparse: whether it runs on the kernels, whose memory only one thread may use at a time.
        layers: how each layer runs, in words.
        refused: why the kernels cannot serve these inputs; None where they can, whether they are used or not.
    """

    path: str
    sparse: bool
    layers: tuple[str, ...]
    run: Callable[[Tensor], Tensor]
    refused: str | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs."""
        return self.run(inputs)


def without_idle(
    model: nn.Module, mask: Mapping[str, Tensor], shape: tuple[int, ...]
) -> tuple[fx.GraphModule, dict[str, Tensor]]:
    """A folded model and its mask without what changes no answer.

    Raises:
        InputError: the kernels do not know the model, so that what its channels do is not known either.
    """
    plain = with_global_means(without_dropout(model), shape)
    steps = traced(plain)
    # What can be traced was a graph already when its batch norms were folded.
    return without_idle_channels(cast(fx.GraphModule, plain), steps, mask)


class Planner:
    """Plans for inputs of one shape.

    Args:
        model, mask: as ``CompiledTicket`` takes them.
        shape: of one input.
        path: "auto" or "sparse".

    Raises:
        InputError: the kernels cannot serve the model.
    """

    def __init__(self, model: nn.Module, mask: Mapping[str, Tensor], shape: tuple[int, ...], path: str) -> None:
        self._whole, self._path, self._shape = model, path, shape
        # Wherever else the caller makes new tensors.
        with torch.device("cpu"):
            self._model, self._mask = without_idle(model, mask, shape)
        # What plans use: torch's ways by name, and nets by batch size and threads.
        self._dense: dict[str, dense_paths.Call] = {}
        self._nets: dict[tuple[int, int, Lanes], SparseModel] = {}
        self._plans: dict[tuple[int, int], Plan] = {}

    def plan(self, inputs: Tensor) -> Plan:
        """For so many inputs of this shape, on as many threads as torch has now.

        Raises:
            InputError: the kernels cannot serve the model, or compute something else.
        """
        size = min(LARGEST, 1 << (inputs.shape[0] - 1).bit_length())
        key = (size, torch.get_num_threads())
        if key not in self._plans:
            with torch.device("cpu"):
                self._plans[key] = self._made(size, inputs[torch.arange(size) % len(inputs)])
        return self._plans[key]

    def _made(self, size: int, inputs: Tensor) -> Plan:
        wanted = dense_paths.plain(self._whole)(inputs)
        nets = {lanes: self._net(lanes, size, inputs) for lanes in self._lanes(size)}
        for sparse in nets.values():
            if why := wrong(sparse.net.forward(inputs), wanted):
                raise InputError(f"asked for the sparse path, got outputs that {why} those of the dense one.")
        ways = {_NAMES[lanes]: partial(_answers, sparse.net, wanted.shape[1:]) for lanes, sparse in nets.items()}
        dense = {} if self._path == "sparse" else self._torchs()
        found: dict[str, dense_paths.Call] = {**dense, **ways}
        name = fastest(found, inputs, next(iter(nets.values())).net) if len(found) > 1 else next(iter(found))
        if name in dense:
            self._dense[name] = dense[name]
            return Plan(f"{name}: measured faster at batch {size}", False, (), dense[name])
        lanes = next(held for held in nets if _NAMES[held] == name)
        self._nets[_net_size(lanes, size), torch.get_num_threads(), lanes] = sparse = nets[lanes]
        return Plan(name.replace("sparse", f"sparse ({sparse.net.instructions})"), True, _layers(sparse), ways[name])

    def _lanes(self, size: int) -> tuple[Lanes, ...]:
        """What vectors may hold: a few images leave most of a vector empty, and the only pixel of a map even more."""
        if size > _PIXELS or not any(isinstance(module, nn.Conv2d) for module in self._model.modules()):
            return ("images",)
        if self._path == "sparse":
            return ("pixels",) if size <= SURELY_PIXELS else ("images",)
        return ("images", "pixels")

    def _torchs(self) -> dict[str, dense_paths.Call]:
        """torch's ways that the model can go."""
        makers = {"dense": dense_paths.plain, _CHANNELS_LAST: dense_paths.channels_last, _CSR: dense_paths.csr}
        made = {name: self._dense.get(name) or maker(self._model) for name, maker in makers.items()}
        return {name: call for name, call in made.items() if call is not None}

    def _net(self, lanes: Lanes, size: int, inputs: Tensor) -> SparseModel:
        size = _net_size(lanes, size)
        if (held := self._nets.get((size, torch.get_num_threads(), lanes))) is not None:
            return held
        made = SparseModel(self._model, self._mask, self._shape, size, training=False, lanes=lanes)
        made.load(self._model.state_dict())
        # Who asks for this path may want the same bits again: what is measured could decide otherwise then.
        if self._path != "sparse":
            # The tuner measures on the activations that are there.
            made.net.forward(inputs[torch.arange(size) % len(inputs)])
            tune(made.net)
        return made


def _net_size(lanes: Lanes, size: int) -> int:
    return next(n for n in ((1, _PIXELS) if lanes == "pixels" else _NETS) if n >= size)


def _answers(net: Net, form: torch.Size, inputs: Tensor) -> Tensor:
    images = inputs.shape[0]
    found = net.forward(inputs) if images <= LARGEST else torch.cat([net.forward(p) for p in inputs.split(LARGEST)])
    return found.view(images, *form)


def wrong(found: Tensor, wanted: Tensor) -> str | None:
    """What tells outputs from those of torch's dense path, in words, where it is more than rounding."""
    if found.numel() != wanted.numel():
        return "have another shape than"
    if not wanted.isfinite().all():
        # Where the dense path multiplies infinity by pruned weights, the sparse one does not.
        return None
    off = (found.view_as(wanted) - wanted).abs().max() / wanted.abs().max().clamp_min(torch.finfo().tiny)
    # A model may round its outputs: what lies between two of them goes either way.
    return (
        None
        if off <= max(_TOLERANCE, torch.finfo(wanted.dtype).eps)
        else f"differ by {float(off):.1e} of the largest from"
    )


def _layers(sparse: SparseModel) -> tuple[str, ...]:
    modules = [step.module for step in sparse.steps]
    return tuple(
        f"{modules[layer]}: {sparse.net.density(layer):.1%} kept, {sparse.net.choice(layer, 'forward')}"
        for layer in sparse.net.layers
    )
