"""Selection: scores and a budget become a mask with exactly the budgeted number of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ticketlab import sampling, seeding
from ticketlab.errors import InputError
from ticketlab.parameters import bare
from ticketlab.threshold import kth_largest

Scores = Mapping[str, Tensor]
Tensors = dict[str, Tensor]
Budget = int | Mapping[str, int]
Select = Callable[..., Tensors]


def top_k(scores: Scores, budget: Budget, alive: Mapping[str, Tensor], seed: int) -> Tensors:
    """Keep the highest scores among the weights still alive.

    Exactly the budgeted number is kept; weights that tie at the threshold are chosen by a seeded permutation.

    Args:
        scores: ``{name: tensor}``, any floating dtype (half precision is ranked in float32).
        budget: a number of weights over all layers together, or ``{name: kept}`` for each layer alone.
        alive: the weights that may be kept.
        seed: decides ties only.

    Returns:
        ``{name: bool tensor}`` on the CPU.

    Raises:
        InputError: a score is NaN or infinite (the layer is named), or fewer weights are alive than asked for.
    """
    ranked = {name: _rankable(name, scores[name], alive[name]) for name in alive}
    if isinstance(budget, Mapping):
        kept: Tensors = {}
        for name in alive:
            kept |= _keep_highest({name: ranked[name]}, budget[name], alive, seed)
        return kept
    return _keep_highest(ranked, budget, alive, seed)


def inverted(scores: Scores, budget: Budget, alive: Mapping[str, Tensor], seed: int) -> Tensors:
    """Keep the lowest scores: the same selection turned round, the positive control of the sanity checks."""
    turned = {name: -(s if s.is_floating_point() else s.double()) for name, s in scores.items()}
    return top_k(turned, budget, alive, seed)


def at_random(scores: Scores, budget: Budget, alive: Mapping[str, Tensor], seed: int) -> Tensors:
    """Keep uniformly random positions, exactly as many as budgeted; scores are not read.

    Every layer has its own stream, so its positions do not depend on the other layers.
    """
    if isinstance(budget, Mapping):
        return {name: _random_subset(mask, budget[name], seed, name) for name, mask in alive.items()}
    ranks = {
        name: torch.rand(m.shape, generator=_stream(seed, "select", name), dtype=torch.float64)
        for name, m in alive.items()
    }
    return top_k(ranks, budget, alive, seed)


def sampled(
    scores: Scores,
    budget: Budget,
    alive: Mapping[str, Tensor],
    seed: int,
    *,
    power: float = 1.0,
    mix: float = 0.0,
    replacement: bool = False,
) -> Tensors:
    """Draw the weights to keep in proportion to their scores: the mask as a sketch (Bar & Giryes 2023).

    One after the other without replacement, each in proportion to what is left, over all layers together or within
    each layer's count. Weights whose score is not positive are drawn when no other is left, uniformly.

    Args:
        power: the draw's temperature, ``score^power``: 0 draws uniformly, 1 in proportion, more approaches top-k.
        mix: the share of uniform drawing, in [0, 1]: ``(1 - mix) score^power / sum + mix / weights``.
        replacement: draw as often as budgeted, with replacement, and keep what was drawn at least once. That is
            fewer weights than budgeted.
    """
    ranked = {name: _rankable(name, scores[name], alive[name]) for name in alive}
    if isinstance(budget, Mapping):
        kept: Tensors = {}
        for name in alive:
            kept |= _drawn({name: ranked[name]}, budget[name], alive, seed, power, mix, replacement)
        return kept
    return _drawn(ranked, budget, alive, seed, power, mix, replacement)


SELECTIONS: dict[str, Select] = {"top-k": top_k, "inverted": inverted, "random": at_random, "sampled": sampled}


def _drawn(
    scores: Tensors, count: int, alive: Mapping[str, Tensor], seed: int, power: float, mix: float, replacement: bool
) -> Tensors:
    """Draw ``count`` of the weights of these layers together."""
    if mix >= 1:
        power, mix = 0.0, 0.0
        scores = {name: torch.ones_like(s) for name, s in scores.items()}
    if power < 0 and mix > 0 and any(bool((s[alive[name]] <= 0).any()) for name, s in scores.items()):
        # Turned round, a score of zero is infinitely likely: all that is not uniform goes to those.
        scores, power = {name: (s <= 0).to(s.dtype) for name, s in scores.items()}, 1.0
    if replacement:
        return _drawn_again_and_again(scores, count, alive, seed, power, mix)
    log_floor = -math.inf
    if mix > 0:
        candidates = [scores[name][alive[name]] for name in scores]
        log_floor = math.log(mix / (1 - mix)) + sampling.log_total(candidates, power)
        log_floor -= math.log(max(1, sum(c.numel() for c in candidates)))
    keys = {
        name: sampling.noisy_keys(s, seeding.derive(seed, "sampled", bare(name)), power, log_floor)
        for name, s in scores.items()
    }
    return _keep_highest(keys, count, alive, seed)


def _drawn_again_and_again(
    scores: Tensors, count: int, alive: Mapping[str, Tensor], seed: int, power: float, mix: float
) -> Tensors:
    """``count`` draws with replacement; what was drawn at least once."""
    given = [s[alive[name]].numpy() for name, s in scores.items()]
    logs = torch.cat([torch.from_numpy(sampling.log_powers(candidates, power)) for candidates in given])
    kept = {name: torch.zeros_like(alive[name]) for name in scores}
    if not (count and len(logs)):
        return kept
    odds = (logs - logs.max()).exp()
    odds = (1 - mix) * odds / odds.sum() + mix / len(odds)
    ends = odds.cumsum(0)
    label = next(iter(scores)) if len(scores) == 1 else ""
    at = torch.rand(count, generator=_stream(seed, "sampled", label), dtype=torch.float64) * ends[-1]
    chosen = torch.zeros(len(odds), dtype=torch.bool)
    chosen[torch.searchsorted(ends, at, right=True).clamp_max_(int(odds.nonzero()[-1]))] = True
    for (name, layer), part in zip(kept.items(), chosen.split([int(alive[n].sum()) for n in kept]), strict=True):
        layer[alive[name]] = part
    return kept


def _rankable(name: str, score: Tensor, alive: Tensor) -> Tensor:
    if score.shape != alive.shape:
        raise InputError(
            f"the score of layer {name!r} has shape {tuple(score.shape)}, its weight has {tuple(alive.shape)}."
        )
    score = score.detach()
    if score.dtype not in (torch.float32, torch.float64):
        score = score.to(torch.float32 if score.is_floating_point() else torch.float64)
    finite = torch.isfinite(score)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise InputError(
            f"the scores of layer {name!r} hold {bad} NaN or infinite values out of {score.numel()}. "
            "Check the model's weights and loss, or score in float64."
        )
    return score.cpu()


def _keep_highest(scores: Tensors, count: int, alive: Mapping[str, Tensor], seed: int) -> Tensors:
    dtype = torch.float64 if any(s.dtype == torch.float64 for s in scores.values()) else torch.float32
    # One dtype for all: against a float32 score, a float64 threshold would be rounded and might tie.
    scores = {name: s.to(dtype) for name, s in scores.items()}
    # Where all are alive there is nothing to choose from them, nor to copy.
    candidates = {name: s if bool(alive[name].all()) else s[alive[name]] for name, s in scores.items()}
    available = sum(c.numel() for c in candidates.values())
    if count > available:
        where = f"layer {next(iter(scores))!r}" if len(scores) == 1 else f"{len(scores)} layers"
        raise InputError(f"asked to keep {count} weights, got {available} to choose from in {where}.")
    if count == available:
        return {name: alive[name].clone() for name in scores}
    if count == 0:
        return {name: torch.zeros_like(alive[name]) for name in scores}
    threshold = kth_largest(list(candidates.values()), count)
    kept = {name: (s > threshold) & alive[name] for name, s in scores.items()}
    missing = count - sum(int(k.sum()) for k in kept.values())
    _add_ties(kept, {n: (s == threshold) & alive[n] for n, s in scores.items()}, missing, seed)
    return kept


def _add_ties(kept: Tensors, ties: Tensors, missing: int, seed: int) -> None:
    """Fill up with ``missing`` of the tied weights, chosen by a seeded permutation over all of them."""
    places = {name: tied.reshape(-1).nonzero().squeeze(1) for name, tied in ties.items()}
    total = sum(p.numel() for p in places.values())
    if total == missing:
        for name, tied in ties.items():
            kept[name] |= tied
        return
    label = next(iter(ties)) if len(ties) == 1 else ""
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[torch.randperm(total, generator=_stream(seed, "ties", label))[:missing]] = True
    for (name, place), part in zip(places.items(), chosen.split([p.numel() for p in places.values()]), strict=True):
        kept[name].view(-1)[place[part]] = True


def _stream(seed: int, purpose: str, name: str) -> torch.Generator:
    """A layer's own stream, the same inside a wrapper (DataParallel, torch.compile), which only adds a prefix."""
    return seeding.generator(seed, purpose, bare(name))


def _random_subset(alive: Tensor, count: int, seed: int, name: str) -> Tensor:
    places = alive.reshape(-1).nonzero().squeeze(1)
    if count > places.numel():
        raise InputError(f"asked to keep {count} weights in layer {name!r}, got {places.numel()} to choose from.")
    order = torch.randperm(places.numel(), generator=_stream(seed, "select", name))
    kept = torch.zeros(alive.numel(), dtype=torch.bool)
    kept[places[order[:count]]] = True
    return kept.view(alive.shape)
