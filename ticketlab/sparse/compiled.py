"""A finished ticket as a module that answers fast: sparse where that is measured to be faster, dense elsewhere."""

from __future__ import annotations

import copy
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch._compile import _disable_dynamo
from torch.nn.parameter import is_lazy

from ticketlab.errors import DensePathWarning, InputError, unknown
from ticketlab.mask import Mask
from ticketlab.parameters import unwrap
from ticketlab.sparse.dense_paths import plain
from ticketlab.sparse.fold import folded
from ticketlab.sparse.layerwise import LayerByLayer, LayerPlan, compared, copied_inputs
from ticketlab.sparse.library import missing
from ticketlab.sparse.one_layer import is_plain
from ticketlab.sparse.plans import Plan, Planner
from ticketlab.sparse.simplify import has_average_pools, without_dropout
from ticketlab.sparse.trace import traced

PATHS = ("auto", "sparse", "dense")
# Shapes whose plans are held at once: each has weights and activations of its own in memory.
_HELD = 4


def compile_ticket(model: nn.Module, mask: Mapping[str, Tensor], path: str = "auto") -> CompiledTicket:
    """A module that computes what the masked model computes in eval mode, for answers only.

    Pruned weights are zero, batch norm is folded into the weights (in double precision), and channels that change no
    answer are removed. The first call of each batch size tunes the kernels and measures whether the sparse path or one
    of torch's dense ones is faster there; what is found is kept in the user's cache folder. The model is copied: what
    happens to it later does not matter. The weights of the copy cannot be trained, saved or moved.

    Where the kernels do not know the model as a whole (transformers, other activations, control flow), its own code
    runs, and each pruned ``nn.Linear`` and ``nn.Conv2d`` in it that is faster on the kernels runs there.

    Args:
        model: its parameters may stand anywhere, in any precision; only fp32 on the CPU runs sparse.
        mask: True where a weight lives, by parameter name; layers that it does not name are dense.
        path: "auto" takes the fastest path; "sparse" the kernels, for the whole network if it can be, else for every
            layer that they know (or raises InputError); "dense" torch.

    Raises:
        InputError: the mask does not fit the model, the model has no values yet, or the path is not to be had.

    Warns:
        DensePathWarning: the kernels cannot serve a single layer, for a reason that ``path`` of the result gives too.
    """
    if path not in PATHS:
        raise unknown("path", path, PATHS)
    held = unwrap(model)
    for name, parameter in held.named_parameters():
        if is_lazy(parameter) or parameter.is_meta:
            raise InputError(f"asked to compile {type(held).__name__}, got {name!r} without values. Run it once first.")
    checked = mask if isinstance(mask, Mask) else Mask(mask)
    masked: nn.Module = checked.apply_(copy.deepcopy(held)).requires_grad_(False)
    alive = {id(parameter): checked[name] for name, parameter in checked.match(masked).items()}
    if isinstance(masked, nn.Conv2d | nn.Linear):
        # The tracer looks for layers inside of a model.
        masked = nn.Sequential(masked)
    alive_by_name = {name: alive[id(p)] for name, p in masked.named_parameters() if id(p) in alive}
    # Wherever else the caller makes new tensors.
    with torch.device("cpu"):
        return CompiledTicket(_prepared(masked), alive_by_name, path, type(held).__name__, masked.eval())


class CompiledTicket(nn.Module):
    """What ``compile_ticket`` returns. Several threads may call it: what runs on the same kernels waits for its turn.

    It always answers in eval mode and in the precision of its weights, under autocast too, and keeps no gradients. It
    has no parameters and no state dict: keep the ticket, and compile it where it is loaded. ``copy.deepcopy`` works,
    pickling is refused.

    Args:
        model: in eval mode, its batch norms folded, without dropout; pruned weights zero.
        mask: True where a weight lives, by parameter name.
        path: see ``compile_ticket``.
        name: of the model, for messages.
        own: the masked model in eval mode, where ``model`` is a graph of it; held until the first call, which compares.
    """

    def __init__(
        self, model: nn.Module, mask: Mapping[str, Tensor], path: str, name: str, own: nn.Module | None = None
    ) -> None:
        super().__init__()
        super().train(False)
        tensors = [*model.parameters(), *model.buffers()]
        self._device = tensors[0].device if tensors else torch.device("cpu")
        self._dtypes = {t.dtype for t in tensors if t.is_floating_point()}
        # In a tuple, or torch would make the copy a part of this module, with parameters to train and to move.
        self._held = (model, dict(mask), path, name)
        # In half precision folding alone may move answers by more than another function would.
        compared = isinstance(model, fx.GraphModule) and self._dtypes <= {torch.float32, torch.float64}
        self._own = (own,) if compared and own is not None else None
        self._lock = threading.Lock()
        # Of each shape; a plan where the kernels cannot serve it as a whole.
        self._planners: OrderedDict[tuple[int, ...], Planner | Plan | LayerPlan] = OrderedDict()
        self._last: Plan | LayerPlan | None = None
        # Layer by layer, for all shapes; made when it is needed first, an error where it cannot be.
        self._layers: LayerByLayer | InputError | None = None
        self._why = "as asked" if path == "dense" else self._refused()
        # Why every input has to run layer by layer.
        self._not_whole = None if self._why else self._unknown()
        if path != "dense" and self._why:
            self._fall_back(self._why)
        elif self._not_whole:
            try:
                self._by_layers(self._not_whole)
            except InputError as error:
                self._why = str(error)
                self._fall_back(self._why)

    def _refused(self) -> str | None:
        """Why the kernels cannot serve the model, not even a layer of it."""
        if self._device.type != "cpu":
            return f"the sparse kernels run on the CPU, the model stands on {self._device}"
        return missing()

    def _unknown(self) -> str | None:
        """Why they cannot serve it as a whole, as far as is known before the first input."""
        model, _, _, _ = self._held
        if self._dtypes != {torch.float32}:
            named = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in self._dtypes)) or "nothing"
            return f"the sparse kernels compute in float32, the model has {named}"
        try:
            traced(model)
        except InputError as error:
            return None if isinstance(model, fx.GraphModule) and _known(model) else str(error)
        return None

    def _by_layers(self, why: str) -> LayerPlan:
        """How to run layer by layer what cannot run as a whole.

        Raises:
            InputError: no layer can run on the kernels either.
        """
        if self._layers is None:
            model, mask, path, _ = self._held
            try:
                self._layers = LayerByLayer(model, mask, path)
            except InputError as error:
                self._layers = error
        if isinstance(self._layers, InputError):
            raise InputError(f"{why.removesuffix('.')}; {self._layers}")
        return LayerPlan(self._layers, why)

    def _fall_back(self, why: str) -> None:
        """To torch alone, or an error where the kernels were asked for."""
        _, _, path, name = self._held
        if path == "sparse":
            raise InputError(f"asked for the sparse path of {name}, got none: {why}")
        warnings.warn(f"{name} runs on torch's dense path: {why}", DensePathWarning, stacklevel=4)

    @property
    def path(self) -> str:
        """How the last call ran, and why.

        As in "sparse (avx512)", "dense: measured faster at batch 1" or "layer by layer (avx512): 12 of 14 layers
        sparse; ", followed by why the whole network cannot run on the kernels.
        """
        if self._why:
            return f"dense: {self._why}"
        return self._last.path if self._last else "not chosen yet: the first call does"

    @property
    def refused(self) -> str | None:
        """Why the kernels can serve no layer of the model, or of the last inputs'; None where they can, used or not."""
        if self._why:
            return self._why
        return self._last.refused if self._last else None

    def forward(self, *inputs: Any, **more: Any) -> Any:
        """The outputs of the masked model for its inputs, which may have any strides.

        Raises:
            InputError: inputs on another device, in another precision or layout, or that want gradients.
        """
        if torch.compiler.is_dynamo_compiling():
            return self._uncompiled(*inputs, **more)
        tensors = [value for value in (*inputs, *more.values()) if isinstance(value, Tensor)]
        for value in tensors:
            self._check(value)
        simple = len(inputs) == 1 and not more and isinstance(inputs[0], Tensor)
        with torch.no_grad(), self._as_written():
            if self._own and all(map(is_plain, tensors)):
                self._compare(inputs, more)
            if not self._why and not self._not_whole and simple and is_plain(inputs[0]) and _is_batch(inputs[0]):
                return self._planned(inputs[0])
            # What torch makes of tensors that only it can read it makes here too, and of an empty batch.
            if self._why or not all(map(is_plain, tensors)) or (simple and inputs[0].numel() == 0):
                return self._held[0](*inputs, **more)
            with self._lock:
                try:
                    plan = self._by_layers(self._not_whole or "asked for a batch (N, features) or (N, C, H, W)")
                except InputError:
                    return self._held[0](*inputs, **more)
            return self._answered(plan, *inputs, **more)

    @_disable_dynamo
    def _uncompiled(self, *inputs: Any, **more: Any) -> Any:
        """The same as a part of a model under torch.compile, which would compile the planner too."""
        return self.forward(*inputs, **more)

    def _as_written(self) -> AbstractContextManager[object]:
        """Without autocast, which takes as long to switch off as a small network to answer."""
        if torch.is_autocast_enabled(self._device.type):
            return torch.autocast(self._device.type, enabled=False)
        return nullcontext()

    def _compare(self, inputs: tuple[Any, ...], more: dict[str, Any]) -> None:
        """Run the model itself from now on if its graph answers otherwise.

        What a model's code decides at each call, by a count of its own or by chance, a graph has decided for good.
        """
        with self._lock:
            if self._own is None:
                return
            (own,), (graph, mask, path, name) = self._own, self._held
            if self._differ(graph, own, inputs, more):
                self._held = (own, mask, path, name)
                self._planners.clear()
                self._layers = None
                if not self._why:
                    self._not_whole = f"asked for a graph of {name}, got a model that answers otherwise than its graph"
                    try:
                        self._by_layers(self._not_whole)
                    except InputError as error:
                        self._why = str(error)
                        self._fall_back(self._why)
            self._own = None

    @staticmethod
    def _differ(graph: nn.Module, own: nn.Module, inputs: tuple[Any, ...], more: dict[str, Any]) -> bool:
        # Neither the inputs nor the model nor the random state are to tell that there was a call before the first one.
        own = copy.deepcopy(own, {id(p): p for p in own.parameters()})
        before = torch.get_rng_state()
        try:
            some, named = copied_inputs((inputs, more))
            return compared(graph, own, some, named)[1] is not None
        except TypeError:
            return False
        finally:
            torch.set_rng_state(before)

    def _planned(self, inputs: Tensor) -> Tensor:
        with self._lock:
            plan = self._plan(inputs)
            # Past torch's own way to set an attribute of a module, which takes as long as a small network.
            self.__dict__["_last"] = plan
            if plan.sparse:
                return plan(inputs)
        outputs: Tensor = self._answered(plan, inputs)
        return outputs

    def _answered(self, plan: Plan | LayerPlan, *inputs: Any, **more: Any) -> Any:
        """What a plan without a lock of its own gives; torch's answer where its layers turn out not to be had."""
        self._last = plan
        if isinstance(plan, Plan):
            return plan(*inputs, **more)
        try:
            found = plan(*inputs, **more)
        except InputError as error:
            if self._held[2] == "sparse":
                raise
            self._why = str(error)
            self._fall_back(self._why)
            return self._held[0](*inputs, **more)
        if plan.refused and not self._why:
            self._why = plan.refused
            self._fall_back(self._why)
        return found

    def _plan(self, inputs: Tensor) -> Plan | LayerPlan:
        shape = tuple(inputs.shape[1:])
        try:
            if shape not in self._planners:
                model, mask, path, _ = self._held
                # If torch refuses such inputs, it does so in its own words.
                model(inputs[:1])
                self._planners[shape] = Planner(model, mask, shape, path)
                if len(self._planners) > _HELD:
                    self._planners.popitem(last=False)
            self._planners.move_to_end(shape)
            found = self._planners[shape]
            return found.plan(inputs) if isinstance(found, Planner) else found
        except InputError as error:
            plan = self._planners[shape] = self._instead(str(error))
            return plan

    def _instead(self, why: str) -> Plan | LayerPlan:
        """For inputs of a shape that the whole network cannot take."""
        try:
            return self._by_layers(why)
        except InputError as error:
            self._fall_back(str(error))
            return Plan(f"dense: {error}", False, (), plain(self._held[0]), str(error))

    def _check(self, inputs: Tensor) -> None:
        asked = f"asked to run {self._held[3]}"
        if inputs.device != self._device:
            raise InputError(f"{asked} on {inputs.device}, got a ticket compiled for {self._device}.")
        if inputs.layout != torch.strided:
            raise InputError(f"{asked} on inputs of layout {inputs.layout}, got a ticket that reads plain tensors.")
        if (
            self._dtypes
            and inputs.dtype not in self._dtypes
            and (inputs.is_floating_point() or not (self._why or self._not_whole))
        ):
            own = ", ".join(sorted(map(str, self._dtypes)))
            raise InputError(f"{asked} on {inputs.dtype}, got a ticket compiled in {own}.")
        if inputs.requires_grad and torch.is_grad_enabled():
            raise InputError(f"{asked} with gradients, got a compiled ticket, which only answers. Use torch.no_grad().")

    def train(self, mode: bool = True) -> CompiledTicket:
        """Nothing: a compiled ticket stays in eval mode, also as a part of a model in training."""
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        raise InputError(f"asked for the state dict of {self._held[3]}, got a compiled ticket: {_KEEP}")

    def load_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        raise InputError(f"asked to load weights into {self._held[3]}, got a compiled ticket: {_KEEP}")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise InputError(f"asked to pickle {self._held[3]}, got a compiled ticket: {_KEEP}")

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledTicket:
        model, mask, path, name = self._held
        with warnings.catch_warnings():
            # It was said of the original.
            warnings.simplefilter("ignore", DensePathWarning)
            own = copy.deepcopy(self._own[0], memo) if self._own else None
            return CompiledTicket(copy.deepcopy(model, memo), mask, path, name, own)

    def __repr__(self) -> str:
        _, mask, _, name = self._held
        kept, total = sum(int(m.sum()) for m in mask.values()), sum(m.numel() for m in mask.values())
        lines = [f"CompiledTicket({name}: {kept:,} of {total:,} weights kept; {self.path}"]
        if self._last is not None:
            lines += [f"  {line}" for line in self._last.layers]
        return "\n".join([*lines, ")"]) if len(lines) > 1 else f"{lines[0]})"


_KEEP = "keep the ticket (ticketlab.export_ticket), and compile it where it is loaded."


def _prepared(model: nn.Module) -> nn.Module:
    """In eval mode, its batch norms folded, without dropout; or just as it is, where that may not be all it does."""
    made, norms = folded(model)
    made = without_dropout(made)
    if not isinstance(made, fx.GraphModule):
        return made
    inputs = [node for node in made.graph.nodes if node.op == "placeholder"]
    # To the tracer an input that callers may leave out is always there, and contexts (autocast, enable_grad) are not.
    # Of what the kernels know, or what has batch norm to fold, nobody expects the like.
    if any(node.args or str(node.target).startswith("*") for node in inputs) or not (norms or _known(made)):
        return copy.deepcopy(model).eval()
    return made


def _known(model: fx.GraphModule) -> bool:
    """Whether the kernels may run a model as a whole."""
    try:
        traced(model)
    except InputError:
        # Whether an average pool is a mean over the whole map is known with the first image.
        return has_average_pools(model)
    return True


def _is_batch(inputs: Tensor) -> bool:
    return inputs.dim() in (2, 4) and inputs.shape[0] > 0
