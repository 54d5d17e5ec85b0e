"""What a score gets to see, on a private copy of the model, so that nothing it does can leak."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab import seeding
from ticketlab.errors import InputError
from ticketlab.parameters import bare, prunable, unwrap

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
ScoreFunction = Callable[..., Mapping[str, Tensor]]

MODES = ("train", "eval", "keep")
_TORCH = Path(torch.__file__).parent
_OURS = Path(__file__).parent


@dataclass
class Scoring:
    """Everything that a score may read: a copy of the model, its weights, the mask so far, the batches, the loss.

    ``model`` and ``weights`` belong to the score: it may change them freely. Removed weights are already zero
    in the copy. ``generator`` is seeded for this score; global randomness (dropout) is seeded too.
    """

    model: nn.Module
    weights: dict[str, nn.Parameter]
    mask: dict[str, Tensor]
    batches: Sequence[Batch]
    loss: Loss
    generator: torch.Generator
    input_shape: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def require_batches(self) -> Sequence[Batch]:
        """The batches; an error says that this score needs data."""
        if not self.batches:
            raise InputError("this method reads data, got none. Pass data=[(inputs, targets), ...].")
        return self.batches

    @torch.no_grad()
    def zero_removed(self) -> None:
        """Set the weights that the mask has removed so far to zero, for scores that redraw or change weights."""
        for name, weight in self.weights.items():
            weight.masked_fill_(~self.mask[name].to(weight.device), 0)

    def gradient(self, batch: Batch, loss: Loss | None = None, create_graph: bool = False) -> dict[str, Tensor]:
        """The gradient of the loss on one batch for each prunable weight (zeros where it does not reach)."""
        inputs, targets = batch
        value = (loss or self.loss)(self.model(inputs), targets)
        grads = torch.autograd.grad(value, list(self.weights.values()), create_graph=create_graph, allow_unused=True)
        return {
            name: torch.zeros_like(weight) if grad is None else grad
            for (name, weight), grad in zip(self.weights.items(), grads, strict=True)
        }


@contextmanager
def private_scoring(
    model: nn.Module,
    names: Sequence[str],
    *,
    mask: Mapping[str, Tensor],
    batches: Sequence[Batch],
    loss: Loss | None,
    seed: int,
    mode: str,
    input_shape: tuple[int, ...] | None,
    options: Mapping[str, Any],
) -> Iterator[Scoring]:
    """A :class:`Scoring` on a deep copy of ``model``, with seeded global randomness that is put back after.

    The user's model is only ever read: weights, buffers, modes, gradients, hooks and ``requires_grad`` stay.
    """
    with seeding.isolated(seed, "score"), torch.inference_mode(False), torch.enable_grad():
        private = private_copy(model)
        if mode != "keep":
            private.train(mode == "train")
        # By position, not by name: the wrapper that the copy leaves out had put a prefix before every name.
        copies = dict(zip(prunable(model), prunable(private).values(), strict=True))
        weights = {name: copies[name] for name in names}
        for weight in weights.values():
            weight.requires_grad_(True)
        device = next(iter(weights.values())).device
        scoring = Scoring(
            model=private,
            weights=weights,
            mask={name: tensor.clone() for name, tensor in mask.items()},
            batches=[(_move(x, device), _move(y, device)) for x, y in batches],
            loss=loss or functional.cross_entropy,
            generator=seeding.generator(seed, "score"),
            input_shape=input_shape,
            options=options,
        )
        scoring.zero_removed()
        yield scoring


def private_copy(model: nn.Module) -> nn.Module:
    """A deep copy of the model inside any wrapper, without its gradients."""
    try:
        private = copy.deepcopy(unwrap(model))
    except Exception as error:
        raise InputError(
            f"asked to score {type(model).__name__}, but it cannot be copied (copy.deepcopy): {error}."
        ) from error
    private.zero_grad(set_to_none=True)
    return private


def call_score(score: ScoreFunction, scoring: Scoring) -> dict[str, Tensor]:
    """Call a score of either form: ``score(scoring, **options)`` or ``score(model, batches, loss, **options)``.

    Raises:
        InputError: an option that the function does not take, an error inside it, or a result that lacks a weight.
    """
    options = dict(scoring.options)
    given = (scoring,) if takes_scoring(score) else (scoring.model, scoring.batches, scoring.loss)
    try:
        found = score(*given, **options)
    except InputError:
        raise
    except Exception as error:
        said, where = _first_line(error), _where(error, score)
        frames = traceback.extract_tb(error.__traceback__)
        in_model = any(_inside(frame.filename, _TORCH / "nn") for frame in frames)
        if in_model and scoring.batches and isinstance(error, (RuntimeError, IndexError, ValueError)):
            inputs, targets = scoring.batches[0]
            raise InputError(
                f"{name_of(score)} was given {_shape(inputs)} inputs and {_shape(targets)} targets, but the model "
                f"(weights {next(iter(scoring.weights.values())).dtype}) fails on them{where}: {said}"
            ) from error
        raise InputError(
            f"asked {name_of(score)} for scores, got {type(error).__name__}{where}{': ' if said else '.'}{said}"
        ) from error
    if not isinstance(found, Mapping):
        raise InputError(f"a score returns {{name: tensor}}, got {type(found).__name__} from {name_of(score)}.")
    if not all(name in found for name in scoring.weights):
        # A plain function names the weights as the copy does, without a wrapper's prefix.
        by_bare = {bare(name): value for name, value in found.items() if isinstance(name, str)}
        found = {name: by_bare[bare(name)] for name in scoring.weights if bare(name) in by_bare}
    missing = [name for name in scoring.weights if name not in found]
    if missing:
        raise InputError(
            f"{name_of(score)} was asked for scores of {len(scoring.weights)} weights, "
            f"got none for {', '.join(missing[:3])}."
        )
    scores = {name: found[name] for name in scoring.weights}
    for name, value in scores.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name_of(score)} gave {type(value).__name__} for {name!r}, not a tensor.")
    return scores


def takes_scoring(score: ScoreFunction) -> bool:
    """Whether a score takes one :class:`Scoring` or the plain ``(model, batches, loss)``.

    Raises:
        InputError: it takes neither.
    """
    required = [
        p
        for p in inspect.signature(score).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]
    if len(required) in (1, 3):
        return len(required) == 1
    raise InputError(
        f"a score takes (scoring) or (model, batches, loss), got {name_of(score)}{inspect.signature(score)}."
    )


def name_of(function: object) -> str:
    """A function's name for messages."""
    return str(getattr(function, "__name__", type(function).__name__))


def _where(error: Exception, score: ScoreFunction) -> str:
    """The line of the user's own code in which an error arose, for messages; nothing if there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not _inside(frame.filename, _TORCH) and not _inside(frame.filename, _OURS):
            return f" in {frame.filename}:{frame.lineno}"
    code = getattr(score, "__code__", None)
    if code is None or _inside(code.co_filename, _OURS):
        return ""
    return f" in {code.co_filename}:{code.co_firstlineno}"


def _inside(file: str, folder: Path) -> bool:
    return folder in Path(file).parents


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _shape(value: Any) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _move(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    # Autograd cannot save a tensor that was made in inference mode.
    return value.to(device, copy=value.is_inference())
