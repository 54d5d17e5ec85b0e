"""prune: one mask for one model."""

from __future__ import annotations

import hashlib
import inspect
import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from ticketlab import budget as budgets
from ticketlab import seeding, select
from ticketlab.errors import EmptyLayerWarning, InputError, unknown
from ticketlab.mask import Mask
from ticketlab.methods import Method, configured, draw_of
from ticketlab.parameters import Filter
from ticketlab.parameters import prunable as prunable_weights
from ticketlab.rounds import kept_after, sparsity_after
from ticketlab.scoring import Batch, Loss, ScoreFunction, call_score, private_scoring
from ticketlab.select import Budget, Scores
from ticketlab.spec import resolve

CLASSIFIERS = ("pruned", "dense")


def prune(
    model: nn.Module,
    method: str | Method | ScoreFunction,
    sparsity: float,
    *,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
    prunable: Filter | None = None,
    input_shape: tuple[int, ...] | None = None,
    **options: Any,
) -> Mask:
    """Find a mask that keeps exactly ``round((1 - sparsity) * total)`` weights of the model as it is.

    (Fewer only if ``replacement=True`` is asked of a sampled method: then that many are drawn, some of them twice.)
    Nothing is trained and nothing of the model changes: weights, buffers, modes, gradients, hooks and the global
    random state stay bit-identical. A method that ranks trained weights (``lottery``, ``imp``) ranks those that
    the model has; :func:`ticketlab.find` does the training too.

    Args:
        method: a registered name, with options if you like ("grasp,temperature=1"); a ``Method``; or a score
            function ``(Scoring) -> {name: tensor}`` or ``(model, batches, loss) -> {name: tensor}``, high = keep.
        sparsity: the fraction removed, in [0, 1).
        data: ``(inputs, targets)`` batches, used exactly as given, in order.
        loss: ``(outputs, targets) -> scalar``; cross-entropy by default.
        seed: decides ties and whatever the method draws.
        prunable: ``(name, parameter) -> bool`` restricts which weights are pruned (and counted).
        input_shape: of one input without the batch dimension, for methods that need a shape but no data.
        options: of the method. ``budget`` may also be a ``Mask`` or ``{name: kept}``: what every layer keeps
            ("ratios:METHOD" takes the counts of another method's mask).

    Warns:
        EmptyLayerWarning: a layer keeps no weight; the mask's ``empty_layers`` lists them.

    Raises:
        InputError: unknown names or options, a sparsity outside [0, 1), a budget that cannot be met, missing
            data, NaN scores, or a model without prunable weights.
    """
    found, spec_options = resolve(method)
    counts = options.pop("budget") if isinstance(options.get("budget"), Mapping) else None
    chosen, own = configured(found, {**spec_options, **options})
    batches = _checked_batches(data)
    asked: dict[str, Any] = {
        "batches": batches,
        "loss": loss,
        "seed": seed,
        "where": prunable,
        "input_shape": input_shape,
    }
    if counts is not None:
        counts = _checked_counts(counts, prunable_weights(model, prunable), sparsity)
    elif chosen.donor is not None:
        counts = budgets.from_mask(find_mask(model, *donor_of(chosen), sparsity, **asked))
    mask = find_mask(model, chosen, own, sparsity, **asked, counts=counts)
    if counts is not None:
        mask.fingerprint["budget"] = chosen.budget if chosen.donor is not None else "counts that were given"
    if mask.empty_layers:
        text = f"{chosen.name} at sparsity {sparsity:g} leaves no weight in: {', '.join(mask.empty_layers)}."
        warnings.warn(text, EmptyLayerWarning, stacklevel=2)
    mask.fingerprint |= {
        "weights": digest_of(p for _, p in model.named_parameters()),
        "data": digest_of(t for batch in batches for t in batch if isinstance(t, Tensor)),
    }
    return mask


def find_mask(
    model: nn.Module,
    method: Method,
    options: Mapping[str, Any],
    sparsity: float,
    *,
    batches: list[Batch],
    loss: Loss | None = None,
    seed: int = 0,
    where: Filter | None = None,
    input_shape: tuple[int, ...] | None = None,
    start: Mapping[str, Tensor] | None = None,
    invert: bool = False,
    counts: Mapping[str, int] | None = None,
    of_path: float = 1.0,
) -> Mask:
    """The mask that a configured method finds, from ``start`` (a mask; dense by default) on.

    ``counts`` says how many weights every layer keeps in the end, whatever the method's own budget is. ``of_path`` is
    the place of this pruning among those of its program, 1 for the last (or only) one.
    """
    weights = prunable_weights(model, where)
    shapes = {name: tuple(w.shape) for name, w in weights.items()}
    total = sum(w.numel() for w in weights.values())
    budgets.check_sparsity(sparsity)
    sparsity = float(sparsity)
    if input_shape is None and batches:
        input_shape = tuple(getattr(batches[0][0], "shape", ())[1:]) or None
    pinned = _pinned(shapes, method if counts is None else replace(method, budget="counts"), options, total, sparsity)
    alive = dict(start) if start is not None else dict(Mask.dense(weights))
    for round_ in range(1, method.rounds + 1):
        scores: Mapping[str, Tensor] = {}
        if method.score is not None:
            with private_scoring(
                model,
                list(weights),
                mask=alive,
                batches=batches,
                loss=loss,
                seed=seeding.derive(seed, "round", round_),
                mode=method.mode,
                input_shape=input_shape,
                options=accepted(method.score, options),
            ) as scoring:
                scores = call_score(method.score, scoring)
        if counts is not None:
            kept: int | dict[str, int] = _on_the_way(counts, shapes, round_, method.rounds)
        else:
            kept = _budget(method, options, shapes, sparsity, round_)
        if isinstance(kept, int):
            kept -= sum(alive[name].numel() for name in pinned)
        elif not draw_of(method, options).get("replacement"):
            # Draws with replacement are a number of draws, which needs no room.
            kept = _within(kept, alive)
        free = {name: mask for name, mask in alive.items() if name not in pinned}
        choose = _selection(method, options, invert, round_, of_path)
        alive = {**alive, **choose(scores, kept, free, seed)}
    return Mask(
        alive,
        {
            "method": method.name,
            "options": {k: v for k, v in options.items() if _is_plain(v)},
            "sparsity": sparsity,
            "seed": int(seed),
            "torch": torch.__version__,
        },
    )


def _on_the_way(
    counts: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]], round_: int, rounds: int
) -> dict[str, int]:
    """What every layer keeps after a round on its own way to ``counts``."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if round_ == rounds:
        return dict(counts)
    return {name: max(k, kept_after(sizes[name], 1 - k / sizes[name], round_, rounds)) for name, k in counts.items()}


def planned_budget(model: nn.Module, method: Method, options: Mapping[str, Any], sparsity: float) -> int:
    """How many weights the method will keep; raises the error of a budget that cannot be met, scoring nothing."""
    shapes = {name: tuple(w.shape) for name, w in prunable_weights(model).items()}
    total = sum(math.prod(shape) for shape in shapes.values())
    _pinned(shapes, method, options, total, sparsity)
    if method.donor is not None:
        return planned_budget(model, *donor_of(method), sparsity)
    for round_ in range(1, method.rounds + 1):
        kept = _budget(method, options, shapes, sparsity, round_)
    count = kept if isinstance(kept, int) else sum(kept.values())
    if draw_of(method, options).get("replacement"):
        raise InputError(
            f"asked {method.name} for a ticket of {count} weights, got draws with replacement, which keep fewer. "
            "Draw without replacement; only the library's `prune` gives masks of another size."
        )
    return count


def donor_of(method: Method) -> tuple[Method, dict[str, Any]]:
    """The method whose per-layer counts this one keeps, and its options.

    Raises:
        InputError: an unknown method, or one that takes the counts of a third.
    """
    donor, options = resolve(method.donor or "")
    found = configured(donor, options)
    if found[0].donor is not None:
        raise InputError(f"asked for the ratios of {method.donor}, got a method that takes those of another itself.")
    if draw_of(*found).get("replacement"):
        raise InputError(
            f"asked for the ratios of {method.donor}, got draws with replacement, which keep fewer weights."
        )
    return found


def _selection(
    method: Method, options: Mapping[str, Any], invert: bool, round_: int, of_path: float = 1.0
) -> select.Select:
    """The method's selection in a round, turned round for the invert check."""
    draw = draw_of(method, options)
    last = round_ == method.rounds and of_path == 1
    if draw and (draw["draw"] == "every" or last):
        power = draw["temperature"] * (-1 if invert else 1)

        def choose(scores: Scores, kept: Budget, alive: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
            # Every round has its own noise: with the same one, many rounds would be one draw.
            place = ("round", round_) if of_path == 1 else ("stage", of_path, round_)
            own, mix, again = seeding.derive(seed, *place), draw["mix"], draw["replacement"]
            return select.sampled(scores, kept, alive, own, power=power, mix=mix, replacement=again)

        return choose
    name = "top-k" if draw else method.select
    turned = {"top-k": "inverted", "inverted": "top-k"}
    return select.SELECTIONS[turned.get(name, name) if invert else name]


def _pinned(
    shapes: Mapping[str, tuple[int, ...]], method: Method, options: Mapping[str, Any], total: int, sparsity: float
) -> set[str]:
    """Layers that stay dense though they count: the linear ones, in the original paper's lottery tickets."""
    classifier = options.get("classifier", "pruned")
    if classifier not in CLASSIFIERS:
        raise unknown("classifier", classifier, CLASSIFIERS)
    if classifier == "pruned":
        return set()
    if method.budget != "global":
        raise InputError(
            f"asked {method.name} for a dense classifier and the budget {method.budget!r}, which gives the classifier "
            "its own count. Leave one of the two out."
        )
    linear = {name for name, shape in shapes.items() if len(shape) == 2}
    fixed, kept = sum(math.prod(shapes[n]) for n in linear), budgets.total(total, sparsity)
    if fixed > kept:
        raise InputError(
            f"asked to keep {kept} of {total} weights, but the dense classifier alone has {fixed}. "
            "Ask for less sparsity, or classifier=pruned."
        )
    return linear


def _budget(
    method: Method, options: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], sparsity: float, round_: int
) -> int | dict[str, int]:
    if method.budget == "global":
        total = sum(math.prod(shape) for shape in shapes.values())
        return kept_after(total, sparsity, round_, method.rounds)
    counts = _COUNTS[method.budget]
    return counts(shapes, sparsity_after(sparsity, round_, method.rounds), **accepted(counts, options))


def _within(kept: dict[str, int], alive: Mapping[str, Tensor]) -> dict[str, int]:
    """The counts, moved to other layers where rounding asks a layer for more than earlier rounds have left in it."""
    left = {name: int(alive[name].sum()) for name in kept}
    if all(kept[name] <= left[name] for name in kept):
        return kept
    return budgets.largest_remainder({name: Fraction(k) for name, k in kept.items()}, left, sum(kept.values()))


_COUNTS: dict[str, Callable[..., dict[str, int]]] = {
    "uniform": budgets.uniform,
    "erk": budgets.erk,
    "smart": budgets.smart,
}


def mask_options(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that decide a mask: those of the score and of the budget, not those of the program."""
    taken = {name: value for name, value in options.items() if name == "classifier"}
    taken |= {f"draw {name}": value for name, value in draw_of(method, options).items()}
    for function in (method.score, _COUNTS.get(method.budget)):
        taken |= accepted(function, options) if function is not None else {}
    return taken


def accepted(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a function takes by name."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in names}


def _checked_counts(given: Mapping[str, Any], weights: Mapping[str, Tensor], sparsity: float) -> dict[str, int]:
    """Per-layer counts of the user's own, after checking that they fit the model and the sparsity."""
    counts = budgets.from_mask(given) if isinstance(given, Mask) else dict(given)
    if list(counts) != list(weights) and set(counts) != set(weights):
        other = sorted(set(counts) ^ set(weights))
        raise InputError(f"asked to keep counts for {len(counts)} layers, got a model where {other[:3]} differ.")
    for name, weight in weights.items():
        kept = counts[name]
        if isinstance(kept, bool) or not isinstance(kept, numbers.Integral) or not 0 <= int(kept) <= weight.numel():
            raise InputError(f"asked to keep {kept!r} weights of {name!r}, got a layer of {weight.numel()}.")
    budgets.check_sparsity(sparsity)
    kept = budgets.total(sum(w.numel() for w in weights.values()), sparsity)
    # Counts that were rounded layer by layer may be off by less than one each.
    if abs(sum(counts.values()) - kept) > len(counts):
        raise InputError(
            f"asked for sparsity {sparsity:g}, which keeps {kept} weights, got counts that keep {sum(counts.values())}."
        )
    return {name: int(counts[name]) for name in weights}


def _checked_batches(data: Iterable[Batch] | None) -> list[Batch]:
    batches = list(data) if data is not None else []
    for index, batch in enumerate(batches):
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
            raise InputError(
                f"asked for data as (inputs, targets) batches, got {type(batch).__name__} as batch {index}."
            )
    return [(inputs, targets) for inputs, targets in batches]


def digest_of(tensors: Iterable[Tensor]) -> str:
    """A short hash of contents, to recognise what a mask was made from."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
