"""What each kind of step does: a pure function of its parameters and the results of its inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ticketlab import seeding, select
from ticketlab.budget import from_mask
from ticketlab.checks import Evidence
from ticketlab.checks import resolve as resolve_check
from ticketlab.data.batches import scoring_batches
from ticketlab.data.types import Data, Split
from ticketlab.diagnosis import diagnose
from ticketlab.engine.engine import load_tensors
from ticketlab.engine.job import Job, Trained, clones, tensors_of
from ticketlab.engine.precision import numerics
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.train import Keeper, Tell, train_jobs
from ticketlab.experiment.context import Context
from ticketlab.experiment.plan import mask_seed, method_of
from ticketlab.experiment.step import Result, Step
from ticketlab.experiment.store import Store
from ticketlab.mask import Mask
from ticketlab.parameters import prunable
from ticketlab.program import Ticket
from ticketlab.pruning import digest_of, find_mask


def execute(step: Step, context: Context, store: Store) -> Result:
    """Run one step on the stored results of its inputs."""
    run = {"init": _init, "data": _data, "prune": _prune, "transform": _transform, "control": _control}
    if step.kind == "train":
        return execute_pack([step], context, store)[0]
    # Scores are fp32 whatever the trainings are.
    with numerics(context.threads):
        return run[step.kind](step, context, store)


def execute_pack(steps: Sequence[Step], context: Context, store: Store) -> list[Result]:
    """Run several training steps together; each result is what it would be alone."""
    with numerics(context.threads, context.precision):
        lost = [_lost(step, store) for step in steps]
        going = [step for step, epoch in zip(steps, lost, strict=True) if epoch is None]
        trained = iter(_train(going, context, store) if going else [])
        return [next(trained) if epoch is None else _diverged(context.data, epoch) for epoch in lost]


def _init(step: Step, context: Context, store: Store) -> Result:
    with seeding.isolated(step.params["seed"], step.params["draw"]):
        model = context.build()
    return Result({}, tensors={"weights": clones(tensors_of(model))})


def _data(step: Step, context: Context, store: Store) -> Result:
    _, changed = context.split(step.params["variant"], step.params["seed"])
    return Result({"facts": changed})


def _train(steps: Sequence[Step], context: Context, store: Store) -> list[Result]:
    splits = [context.split(step.params["variant"], step.params["seed"])[0] for step in steps]
    read = [context.digest(split) for split in splits]
    moved = {id(split): split.to(context.device) for split in splits if split is not context.data.train}
    jobs = [_job(step, moved.get(id(split)), store) for step, split in zip(steps, splits, strict=True)]
    keeper = _keeper(store, context.every, context.tell)
    recipe = Recipe.from_json(steps[0].params["recipe"])
    names = [step.id for step in steps]
    results = train_jobs(context.opened(recipe), jobs, context.resident, recipe, names, keeper)
    return [_trained(r, step, digest) for r, step, digest in zip(results, steps, read, strict=True)]


def _keeper(store: Store, every: float = 60.0, tell: Tell | None = None) -> Keeper:
    return Keeper(store.folder / "unfinished", every, tell=tell)


def forget_unfinished(steps: Sequence[Step], store: Store) -> None:
    """Remove the checkpoints of trainings whose results are stored."""
    _keeper(store).forget(step.id for step in steps if step.kind == "train")


def _job(step: Step, split: Split | None, store: Store) -> Job:
    return Job(
        weights=store.tensors(step.inputs["weights"], "weights"),
        mask=store.mask(step.inputs["mask"]) if "mask" in step.inputs else None,
        seed=step.params["seed"],
        split=split,
        start=step.params["start"],
        until=step.params["until"],
        momentum=store.tensors(step.inputs["momentum"], "momentum") if "momentum" in step.inputs else None,
    )


def _trained(result: Trained, step: Step, read: str) -> Result:
    best = max((e["accuracy"] for e in result.history), default=None)
    facts = {
        "accuracy": None if math.isnan(result.accuracy) else result.accuracy,
        "best": best,
        "epochs": result.history[-1]["epoch"] - step.params["start"] if result.history else 0,
        "diverged_at": result.diverged_at,
        "diverged_step": result.diverged_step,
        "history": result.history,
        "facts": {"read": read},
    }
    tensors = {"correct": {"correct": result.correct}}
    if step.params["keep"]:
        tensors |= {"weights": result.weights, "momentum": result.momentum}
    return Result(facts, tensors=tensors)


def _diverged(data: Data, epoch: int) -> Result:
    """A training whose ticket comes from one that diverged: there is no ticket to train."""
    facts: dict[str, Any] = {"accuracy": None, "best": None, "epochs": 0, "diverged_at": epoch, "history": []}
    nothing = {"correct": torch.zeros(len(data.test), dtype=torch.bool)}
    return Result(facts, tensors={"correct": nothing, "weights": {}, "momentum": {}})


def _prune(step: Step, context: Context, store: Store) -> Result:
    params = step.params
    method, options = method_of(step.method, context.methods)
    if (epoch := _lost(step, store)) is not None:
        return Result({"diverged_at": epoch}, mask=Mask.dense(prunable(context.template())))
    model = _loaded(step, context, store) if "weights" in step.inputs else context.template()
    batches = []
    if method.reads_data and method.score is not None:
        split, _ = context.split(params["variant"], params["seed"])
        draw = seeding.generator(params["seed"], "scoring batch")
        batches = scoring_batches(
            split, context.data, per_class=params["per_class"], parts=method.parts, generator=draw
        )
    mask = find_mask(
        model.to(context.device),
        method,
        options,
        params["sparsity"],
        batches=batches,
        seed=mask_seed(params["seed"]),
        input_shape=tuple(context.data.in_shape),
        start=store.mask(step.inputs["mask"]) if "mask" in step.inputs else None,
        invert=params["invert"],
        of_path=params.get("of_path", 1.0),
        counts=from_mask(store.mask(step.inputs["ratios.mask"])) if "ratios.mask" in step.inputs else None,
    )
    read = {"facts": {"read": digest_of(t for batch in batches for t in batch)}} if batches else {}
    return Result({**_health(model, mask, context), **read}, mask=mask)


def _health(model: nn.Module, mask: Mask, context: Context) -> dict[str, Any]:
    """What every mask is looked at for before a training is spent on it."""
    found = diagnose(model, mask, tuple(context.data.in_shape))
    return {
        "kept": {name: kept for name, (kept, _) in mask.counts().items()},
        "empty_layers": list(found.empty_layers),
        "dead_units": found.dead_units,
        "effective_sparsity": found.effective_sparsity,
    }


def _transform(step: Step, context: Context, store: Store) -> Result:
    mask = store.mask(step.inputs["mask"])
    seed = seeding.derive(step.params["seed"], step.params["name"])
    if (epoch := _lost(step, store)) is not None:
        weights = store.tensors(step.inputs["weights"], "weights") if "weights" in step.inputs else {}
        return Result({"diverged_at": epoch}, mask=mask, tensors={"weights": weights})
    if step.params["name"] == "rearrange":
        everywhere = dict(Mask.dense(mask))
        rearranged = Mask(select.at_random({}, from_mask(mask), everywhere, seed), {"rearranged": seed})
        return Result(_health(context.template(), rearranged, context), mask=rearranged)
    weights = store.tensors(step.inputs["weights"], "weights")
    return Result({}, tensors={"weights": shuffled(weights, mask, seed)})


def shuffled(weights: Mapping[str, Tensor], mask: Mask, seed: int) -> dict[str, Tensor]:
    """The same weights with the kept values of each layer permuted among its kept positions."""
    new = dict(weights)
    for name, kept in mask.items():
        values = weights[name][kept]
        order = torch.randperm(values.numel(), generator=seeding.generator(seed, name))
        new[name] = weights[name].clone()
        new[name][kept] = values[order]
    return new


def _control(step: Step, context: Context, store: Store) -> Result:
    facts: dict[str, Any] = {}
    if "data.facts" in step.inputs:
        facts = (store.facts(step.inputs["data.facts"]) or {}).get("facts", {})
    clean = {"same_training": step.params["same_training"], "trained_on_clean": step.params["trained_on_clean"]}
    if _lost(step, store) is not None:
        summary = "the training before pruning diverged"
        return Result({"passed": all(clean.values()), "facts": clean, "summary": summary, "equal": False})
    tickets = [
        Ticket(store.mask(step.inputs[f"{role}.mask"]), store.tensors(step.inputs[f"{role}.weights"], "weights"))
        for role in ("original", "tampered")
    ]
    read = [
        (store.facts(step.inputs[role]) or {}).get("facts", {}).get("read")
        for role in ("original.facts", "tampered.facts")
        if role in step.inputs
    ]
    other = read[0] != read[1] if len(read) == 2 else None
    keeps = step.params.get("keeps_weights", False)
    control = resolve_check(step.params["check"]).control(Evidence(tickets[0], tickets[1], facts, other, keeps))
    equal = tickets[0].mask == tickets[1].mask and all(
        torch.equal(tickets[0].weights[n], w) for n, w in tickets[1].weights.items()
    )
    return Result(
        {
            "passed": control.passed and all(clean.values()),
            "facts": {**control.facts, **clean},
            "summary": control.summary,
            "equal": equal,
        }
    )


def _lost(step: Step, store: Store) -> int | None:
    """The epoch in which a training that this step builds on diverged; a mask of it is no mask to train."""
    found = [(store.facts(i) or {}).get("diverged_at") for i in step.inputs.values()]
    return next((int(epoch) for epoch in found if epoch is not None), None)


def _loaded(step: Step, context: Context, store: Store) -> nn.Module:
    model = context.template()
    load_tensors(model, store.tensors(step.inputs["weights"], "weights"))
    return model
