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
from torch.nn.parameter import is_lazy

from ticketlab.errors import DensePathWarning, InputError, unknown
from ticketlab.mask import Mask
from ticketlab.parameters import unwrap
from ticketlab.sparse.dense_paths import plain
from ticketlab.sparse.fold import folded
from ticketlab.sparse.library import missing
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

    Args:
        model: its parameters may stand anywhere, in any precision; only fp32 on the CPU runs sparse.
        mask: True where a weight lives, by parameter name; layers that it does not name are dense.
        path: "auto" takes the fastest path, "sparse" the kernels (or raises InputError), "dense" torch.

    Raises:
        InputError: the mask does not fit the model, the model has no values yet, or the path is not to be had.

    Warns:
        DensePathWarning: the kernels cannot serve the model, for a reason that ``path`` of the result gives too.
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
    return CompiledTicket(without_dropout(folded(masked)[0]), alive_by_name, path, type(held).__name__)


class CompiledTicket(nn.Module):
    """What ``compile_ticket`` returns. Several threads may call it: sparse calls wait for each other.

    It always answers in eval mode and in the precision of its weights, under autocast too, and keeps no gradients. It
    has no parameters and no state dict: keep the ticket, and compile it where it is loaded. ``copy.deepcopy`` works,
    pickling is refused.

    Args:
        model: in eval mode, its batch norms folded, without dropout; pruned weights zero.
        mask: True where a weight lives, by parameter name.
        path: see ``compile_ticket``.
        name: of the model, for messages.
    """

    def __init__(self, model: nn.Module, mask: Mapping[str, Tensor], path: str, name: str) -> None:
        super().__init__()
        super().train(False)
        tensors = [*model.parameters(), *model.buffers()]
        self._device = tensors[0].device if tensors else torch.device("cpu")
        self._dtypes = {t.dtype for t in tensors if t.is_floating_point()}
        # In a tuple, or torch would make the copy a part of this module, with parameters to train and to move.
        self._held = (model, dict(mask), path, name)
        self._lock = threading.Lock()
        # Of each shape; a plan where the kernels cannot serve it.
        self._planners: OrderedDict[tuple[int, ...], Planner | Plan] = OrderedDict()
        self._last: Plan | None = None
        self._why = "as asked" if path == "dense" else self._refused()
        if self._why and path != "dense":
            self._fall_back(self._why)

    def _refused(self) -> str | None:
        """Why the kernels cannot serve the model, as far as is known before the first input."""
        model, _, _, _ = self._held
        if self._device.type != "cpu":
            return f"the sparse kernels run on the CPU, the model stands on {self._device}"
        if self._dtypes != {torch.float32}:
            named = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in self._dtypes)) or "nothing"
            return f"the sparse kernels compute in float32, the model has {named}"
        if why := missing():
            return why
        try:
            traced(model)
        except InputError as error:
            # Whether an average pool is a mean over the whole map is known with the first image.
            return None if isinstance(model, fx.GraphModule) and has_average_pools(model) else str(error)
        return None

    def _fall_back(self, why: str) -> None:
        _, _, path, name = self._held
        if path == "sparse":
            raise InputError(f"asked for the sparse path of {name}, got none: {why}")
        warnings.warn(f"{name} runs on torch's dense path: {why}", DensePathWarning, stacklevel=4)

    @property
    def path(self) -> str:
        """How the last call ran, and why, as in "sparse (avx512)" or "dense: measured faster at batch 1"."""
        if self._why:
            return f"dense: {self._why}"
        return self._last.path if self._last else "not chosen yet: the first call does"

    @property
    def refused(self) -> str | None:
        """Why the kernels cannot serve the model, or the last inputs; None where they can, whether used or not."""
        if self._why:
            return self._why
        return self._last.refused if self._last else None

    def forward(self, *inputs: Any, **more: Any) -> Any:
        """The outputs of the masked model for its inputs, which may have any strides.

        Raises:
            InputError: inputs on another device, in another precision or layout, or that want gradients.
        """
        for value in (*inputs, *more.values()):
            if isinstance(value, Tensor):
                self._check(value)
        simple = len(inputs) == 1 and not more and isinstance(inputs[0], Tensor)
        with torch.no_grad(), self._as_written():
            if self._why or not simple or not _is_batch(inputs[0]):
                # What torch makes of an empty batch, or of a single image, it makes here too.
                return self._held[0](*inputs, **more)
            return self._planned(inputs[0])

    def _as_written(self) -> AbstractContextManager[object]:
        """Without autocast, which takes as long to switch off as a small network to answer."""
        if torch.is_autocast_enabled(self._device.type):
            return torch.autocast(self._device.type, enabled=False)
        return nullcontext()

    def _planned(self, inputs: Tensor) -> Tensor:
        with self._lock:
            plan = self._last = self._plan(inputs)
            if plan.sparse:
                return plan(inputs)
        return plan(inputs)

    def _plan(self, inputs: Tensor) -> Plan:
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
            return found if isinstance(found, Plan) else found.plan(inputs)
        except InputError as error:
            self._fall_back(str(error))
            plan = self._planners[shape] = Plan(f"dense: {error}", False, (), plain(self._held[0]), str(error))
            return plan

    def _check(self, inputs: Tensor) -> None:
        asked = f"asked to run {self._held[3]}"
        if inputs.device != self._device:
            raise InputError(f"{asked} on {inputs.device}, got a ticket compiled for {self._device}.")
        if inputs.layout != torch.strided:
            raise InputError(f"{asked} on inputs of layout {inputs.layout}, got a ticket that reads plain tensors.")
        if self._dtypes and inputs.dtype not in self._dtypes and (inputs.is_floating_point() or not self._why):
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
            return CompiledTicket(copy.deepcopy(model, memo), mask, path, name)

    def __repr__(self) -> str:
        _, mask, _, name = self._held
        kept, total = sum(int(m.sum()) for m in mask.values()), sum(m.numel() for m in mask.values())
        lines = [f"CompiledTicket({name}: {kept:,} of {total:,} weights kept; {self.path}"]
        if self._last is not None:
            lines += [f"  {line}" for line in self._last.layers]
        return "\n".join([*lines, ")"]) if len(lines) > 1 else f"{lines[0]})"


_KEEP = "keep the ticket (ticketlab.export_ticket), and compile it where it is loaded."


def _is_batch(inputs: Tensor) -> bool:
    return inputs.dim() in (2, 4) and len(inputs) > 0
