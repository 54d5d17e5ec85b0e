"""What each kind of step does: a pure function of its parameters and the results of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ticketlab import seeding, select
from ticketlab.budget import from_mask
from ticketlab.checks import Evidence
from ticketlab.checks import resolve as resolve_check
from ticketlab.data import corruption
from ticketlab.data.batches import scoring_batches
from ticketlab.data.types import Data, Split
from ticketlab.diagnosis import diagnose
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.train import Trained, train
from ticketlab.errors import InputError
from ticketlab.experiment.plan import mask_seed, method_of
from ticketlab.experiment.step import Result, Step
from ticketlab.experiment.store import Store
from ticketlab.mask import Mask
from ticketlab.methods import Method
from ticketlab.parameters import prunable
from ticketlab.program import CLEAN, Program, Ticket
from ticketlab.pruning import digest_of, find_mask


@dataclass
class Context:
    """What steps need beside their inputs: the data, the model's factory, and methods that have no spec.

    ``build`` makes a fresh model under the current global random state.
    """

    data: Data
    build: Callable[[], nn.Module]
    methods: Mapping[str, Method] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1
    _digest: tuple[Split, str] | None = None
    _variants: dict[tuple[str, int], tuple[Split, dict[str, Any]]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """What worker processes get: programs shape the plan, which is made already, and may be lambdas."""
        methods = {name: replace(method, program=_planned) for name, method in self.methods.items()}
        return {**self.__dict__, "methods": methods, "_variants": {}, "_digest": None}

    def split(self, variant: str, seed: int) -> tuple[Split, dict[str, Any]]:
        """The training data in a variant, and what tampering changed. The last one made is kept in memory."""
        if variant == CLEAN:
            return self.data.train, {}
        if (variant, seed) not in self._variants:
            self._variants.clear()
            self._variants[variant, seed] = tampered(self.data, variant, seed)
        return self._variants[variant, seed]

    def digest(self, split: Split) -> str:
        """A hash of the examples themselves, computed once for the clean split and the last tampered one."""
        if split is self.data.train:
            return self.data.fingerprint[:16]
        if self._digest is None or self._digest[0] is not split:
            self._digest = split, digest_of([split.inputs, split.targets])
        return self._digest[1]


def _planned(sparsity: float, options: Mapping[str, Any]) -> Program:
    raise AssertionError("a worker plans nothing")


def tampered(data: Data, variant: str, seed: int) -> tuple[Split, dict[str, Any]]:
    """The training split in a tampered variant, and the facts of what changed."""
    draw = seeding.generator(seed, "data", variant)
    if variant == "half-data":
        return corruption.half(data.train, draw)
    if variant == "random-pixels":
        return corruption.random_pixels(data.train, draw)
    if variant == "random-labels":
        return corruption.random_labels(data.train, data.classes, draw)
    if variant == "corrupted":
        return corruption.corrupted(data.train, data.classes, draw)
    raise InputError(f"asked for data variant {variant!r}, got no such variant.")


@contextmanager
def numerics(threads: int) -> Iterator[None]:
    """Run with the study's number of threads, which decides the last bits of sums, then put the old one back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    # fp32 means fp32: cuDNN would take TF32 for convolutions, and the fastest algorithm of the day.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        try:
            yield
        finally:
            torch.set_num_threads(before)


def execute(step: Step, context: Context, store: Store) -> Result:
    """Run one step on the stored results of its inputs."""
    run = {"init": _init, "data": _data, "train": _train, "prune": _prune, "transform": _transform, "control": _control}
    with numerics(context.threads):
        return run[step.kind](step, context, store)


def _init(step: Step, context: Context, store: Store) -> Result:
    with seeding.isolated(step.params["seed"], step.params["draw"]):
        model = context.build()
    return Result({}, tensors={"weights": _state(model)})


def _data(step: Step, context: Context, store: Store) -> Result:
    _, changed = context.split(step.params["variant"], step.params["seed"])
    return Result({"facts": changed})


def _train(step: Step, context: Context, store: Store) -> Result:
    params = step.params
    if (epoch := _lost(step, store)) is not None:
        return _diverged(context.data, epoch)
    model = _loaded(step, context, store)
    split, _ = context.split(params["variant"], params["seed"])
    result = train(
        model.to(context.device),
        store.mask(step.inputs["mask"]) if "mask" in step.inputs else None,
        context.data,
        split,
        Recipe(**{**params["recipe"], "drops": tuple(params["recipe"]["drops"])}),
        params["seed"],
        start=params["start"],
        until=params["until"],
        momentum=store.tensors(step.inputs["momentum"], "momentum") if "momentum" in step.inputs else None,
    )
    return _trained(result, keep=params["keep"], read=context.digest(split))


def _trained(result: Trained, keep: bool, read: str) -> Result:
    best = max((e["accuracy"] for e in result.history), default=None)
    facts = {
        "accuracy": None if math.isnan(result.accuracy) else result.accuracy,
        "best": best,
        "epochs": len(result.history),
        "diverged_at": result.diverged_at,
        "history": result.history,
        "facts": {"read": read},
    }
    tensors = {"correct": {"correct": result.correct}}
    if keep:
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
        return Result({"diverged_at": epoch}, mask=Mask.dense(prunable(_fresh(context))))
    model = _loaded(step, context, store) if "weights" in step.inputs else _fresh(context)
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
        return Result(_health(_fresh(context), rearranged, context), mask=rearranged)
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
    control = resolve_check(step.params["check"]).control(Evidence(tickets[0], tickets[1], facts, other))
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


def _fresh(context: Context) -> nn.Module:
    with seeding.isolated(0, "shape"):
        return context.build()


def _loaded(step: Step, context: Context, store: Store) -> nn.Module:
    model = _fresh(context)
    model.load_state_dict(store.tensors(step.inputs["weights"], "weights"))
    return model


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().cpu().clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)
    }
