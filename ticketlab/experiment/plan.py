"""The plan: a study's tickets as a graph of steps, each shared step once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from ticketlab import seeding, spec
from ticketlab.checks import Check
from ticketlab.checks import resolve as resolve_check
from ticketlab.data.variants import FIRST_HALF
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.errors import InputError
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm, Plan, Reference, Trained
from ticketlab.experiment.conditions import Conditions
from ticketlab.experiment.identity import source
from ticketlab.experiment.settings import OF_TRAINING
from ticketlab.experiment.step import Step
from ticketlab.experiment.study import Compared, Study
from ticketlab.methods import Method, configured
from ticketlab.program import (
    CLEAN,
    Edit,
    Epochs,
    Program,
    Prune,
    Rewind,
    Stage,
    Train,
    Transform,
    in_epochs,
    keeps_weights,
    last_training,
    validated,
)
from ticketlab.pruning import mask_options
from ticketlab.rounds import sparsity_after


def plan(
    study: Study,
    methods: Mapping[str, Method] | None = None,
    seeds: Iterable[int] | None = None,
    granted: Mapping[Compared, int] | None = None,
) -> Plan:
    """The plan of a study, for its seeds or for those given.

    Args:
        methods: method objects for specs that cannot be resolved by name (the library's users' own).
        granted: how many seeds each comparison has, of a study that goes on until decided; those not named have the
            first look's. All of them by default.

    Raises:
        InputError: an unknown method, option or check.
    """
    planner, checks = Planner(study, methods or {}), [resolve_check(check) for check in study.checks]
    if seeds is None and study.until_decided:
        _until_decided(planner, study, checks, granted or {})
        return planner.plan
    for seed in range(study.seeds) if seeds is None else seeds:
        planner.dense(seed)
        for sparsity in study.sparsities:
            for method in study.methods:
                planner.original(method, sparsity, seed)
                for check in checks:
                    planner.tampered(method, check, sparsity, seed)
    return planner.plan


def _until_decided(planner: Planner, study: Study, checks: list[Check], granted: Mapping[Compared, int]) -> None:
    """The arms of the comparisons that have each seed. A ticket that several of them share is planned once."""
    first = study.statistics["looks"][0]
    for seed in range(max([first, *granted.values()])):
        if seed < first:
            # Later dense runs would say nothing: the margin and the lines of health are those of the first look.
            planner.dense(seed)
        for sparsity in study.sparsities:
            for method in study.methods:
                for check in checks:
                    if seed < granted.get((method, check.name, sparsity), first):
                        planner.tampered(method, check, sparsity, seed)


# A ticket; the step that tampered with data to find it, and the first that read any.
Found = tuple[Reference, str | None, str | None]


class Planner:
    """Plans arms one by one under the same conditions; what they share is planned once."""

    def __init__(self, conditions: Conditions, methods: Mapping[str, Method]) -> None:
        self.conditions = conditions
        self.plan = Plan()
        self._methods = methods
        # Looking a method up, building its program and checking both costs more than hashing a step.
        self._known: dict[str, tuple[Method, dict[str, Any]]] = {}
        self._programs: dict[tuple[str, float], Program] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        self._differences: dict[tuple[str, str, float], str | None] = {}
        self._tickets: dict[tuple[str, Program, float, int], Found] = {}
        self._inits: dict[tuple[int, str], str] = {}
        self._variants: dict[tuple[str, int], str] = {}

    def dense(self, seed: int) -> Trained:
        """The net with all of its weights."""
        start = Reference(self._init(seed))
        final = self._train(start, seed, f"dense, seed {seed}", keep=True)
        arm = self.plan.arms[Arm("", DENSE, None, seed)] = Trained(start, final.weights, final.seen)
        return arm

    def original(self, name: str, sparsity: float, seed: int, keep: bool = False) -> Trained:
        """The method's ticket; with ``keep``, its last training leaves the weights behind."""
        arm = Arm(name, ORIGINAL, sparsity, seed)
        if arm not in self.plan.arms:
            self.plan.arms[arm] = self._compile(name, self._program(name, sparsity), sparsity, seed, arm, keep)
        return self.plan.arms[arm]

    def tampered(self, name: str, check: Check, sparsity: float, seed: int) -> None:
        """The method's ticket under a check, and the check's control; or why the check does not apply."""
        method, _ = self._method(name)
        program = self._program(name, sparsity)
        why = check.applies(method, program)
        reads = check.edit.data or check.edit.transform in ("reinit", "weight-shuffle")
        if why and reads and method.donor is not None:
            # What the donor reads decides the ticket too.
            donor, _ = self._method(method.donor)
            why = check.applies(donor, self._program(method.donor, sparsity))
        if check.edit.transform == "reinit" and not self.conditions.model["drawn"]:
            why = "the model came with its weights: there is no other draw of them"
        if check.versus == name:
            why = "a method is not compared with itself"
        elif check.versus:
            why = self._unlike(name, check.versus, sparsity)
        if why:
            entry = {"method": name, "check": check.name, "why": why}
            if entry not in self.plan.not_applicable:
                self.plan.not_applicable.append(entry)
            return
        original = self.original(name, sparsity, seed)
        arm = Arm(name, check.name, sparsity, seed)
        if check.versus:
            other = self.original(check.versus, sparsity, seed)
        else:
            other = self._compile(name, check.edit(program), sparsity, seed, arm)
        control = self._control(check, original, other, arm, keeps_weights(program))
        self.plan.arms[arm] = replace(other, control=control)

    def _unlike(self, name: str, other: str, sparsity: float) -> str | None:
        """Why two methods cannot be compared: their last trainings differ, which they do at every seed or at none."""
        key = (name, other, sparsity)
        if key not in self._differences:
            self._differences[key] = self._difference(name, other, sparsity)
        return self._differences[key]

    def _difference(self, name: str, other: str, sparsity: float) -> str | None:
        """How the last trainings of two methods differ. Planned apart, to leave no steps behind."""
        apart = Planner(self.conditions, self._methods)
        one, two = (apart.original(method, sparsity, 0) for method in (name, other))
        if one.seen != two.seen:
            return f"its weights train for {one.seen:g} epochs, those of {other} for {two.seen:g}: no fair comparison"
        if apart.same_training(one, two):
            return None
        spans = [apart.plan.steps[t.final].params for t in (one, two)]
        trained = [f"{params['start']:g} to {params['until']:g}" for params in spans]
        return f"its last training is of epochs {trained[0]}, that of {other} of {trained[1]}: no fair comparison"

    # One stage after another: each turns a reference into the next.

    def _compile(
        self, name: str, program: Program, sparsity: float, seed: int, arm: Arm, keep: bool = False
    ) -> Trained:
        label = f"{name}{'' if arm.check == ORIGINAL else ' · ' + arm.check}, {100 * sparsity:g}%, seed {seed}"
        last = last_training(program)
        finding = [stage for stage in program[:last] if not isinstance(stage, Transform)]
        now, data, read = self._found(name, tuple(finding), sparsity, seed, label)
        # Where training ends is set by where the untampered ticket stands.
        end, kept = self._end(program[last], now), keeps_weights((*finding, program[last]))
        for stage in program[:last]:
            if isinstance(stage, Transform):
                now = self._transform(now, stage, seed, label, kept)
        final = self._train(now, seed, label, keep=keep, until=end)
        return Trained(now, final.weights, final.seen, data, read)

    def _found(self, name: str, stages: Program, sparsity: float, seed: int, label: str) -> Found:
        """The ticket that these stages find; checks that only tamper with it afterwards share all of it."""
        key = (name, stages, sparsity, seed)
        if key not in self._tickets:
            self._tickets[key] = self._find(name, stages, sparsity, seed, label)
        return self._tickets[key]

    def _find(self, name: str, stages: Program, sparsity: float, seed: int, label: str) -> Found:
        saved = self._checkpoints(stages, seed)
        now, data, read = saved[0], None, None
        for stage in stages:
            if isinstance(stage, (Train, Prune)) and stage.data != CLEAN:
                data = self._data(stage.data, seed)
            if isinstance(stage, Train):
                now = self._finding_train(now, stage, saved, seed, label)
                read = read or now.weights
            elif isinstance(stage, Prune):
                mask, seen = self._prune(now, stage, name, sparsity, seed, label)
                now, read = replace(now, mask=mask), read or seen
            elif isinstance(stage, Rewind):
                place = self._place(stage.to)
                now = replace(saved[place], mask=now.mask) if stage.weights else replace(now, at=place)
        return now, data, read

    def _checkpoints(self, program: Program, seed: int) -> dict[float, Reference]:
        """What the program rewinds to: the dense net after so many epochs on *clean* data.

        A check that tampers with the data tampers with how the mask is found, never with where the ticket starts from.
        """
        epochs = self._training.epochs
        saved: dict[float, Reference] = {0: Reference(self._init(seed))}
        now = saved[0]
        rewinds = [stage for stage in program if isinstance(stage, Rewind)]
        for stage in rewinds:
            if not 0 <= in_epochs(stage.to, epochs) < epochs:
                raise InputError(
                    f"asked to rewind to epoch {in_epochs(stage.to, epochs):g}, got a recipe of {epochs} epochs: "
                    "0 up to, not including, it."
                )
            if self._place(stage.to) >= epochs:
                raise InputError(
                    f"asked to rewind to epoch {in_epochs(stage.to, epochs):g}, got a recipe of {epochs} epochs, whose "
                    "end is the nearest step."
                )
        for place in sorted({self._place(stage.to) for stage in rewinds if stage.weights}):
            if place:
                label = f"dense up to epoch {place:g}, seed {seed}"
                now = self._train(now, seed, label, keep=True, until=place, momentum=now.at > 0)
                saved[place] = now
        return saved

    def _finding_train(
        self, now: Reference, stage: Train, saved: dict[float, Reference], seed: int, label: str
    ) -> Reference:
        """A training before the last one; a dense one on clean data goes on from the last checkpoint."""
        end = self._end(stage, now)
        name = f"{label} (finding)" if now.mask else f"dense{_on(stage.data)}, seed {seed}"
        momentum = False
        if now == saved[0] and stage.data == CLEAN:
            now = max((c for c in saved.values() if end is None or c.at < end), key=lambda c: c.at)
            momentum = now.at > 0
        return self._train(now, seed, name, keep=True, variant=stage.data, until=end, momentum=momentum)

    def _train(
        self,
        now: Reference,
        seed: int,
        label: str,
        *,
        keep: bool,
        variant: str = CLEAN,
        until: float | None = None,
        momentum: bool = False,
    ) -> Reference:
        conditions = self.conditions
        end = self._training.epochs if until is None else until
        inputs = {"weights": now.weights}
        if now.mask:
            inputs["mask"] = now.mask
        if momentum:
            inputs["momentum"] = now.weights
        if variant != CLEAN:
            inputs["data.facts"] = self._data(variant, seed)
        step = self._add(
            "train",
            {
                **self._where(),
                "recipe": conditions.recipe,
                "variant": variant,
                "seed": seed,
                "start": now.at,
                "until": end,
                "keep": keep,
            },
            inputs,
            label,
        )
        # Moved to whole steps: sums of fractions would differ in their last bit, and are compared.
        return Reference(step, now.mask, end, self._step(now.seen + (end - now.at)))

    def _prune(
        self, now: Reference, stage: Prune, name: str, sparsity: float, seed: int, label: str
    ) -> tuple[str, str | None]:
        """The step of the mask, and the one that reads data for it, if any does: itself, or one of its donor's."""
        method, _ = self._method(name)
        read = None
        inputs = {"weights": now.weights} if method.reads_weights else {}
        if now.mask:
            inputs["mask"] = now.mask
        asked = sparsity_after(sparsity, stage.of_path, 1)
        if method.donor is not None:
            inputs["ratios.mask"], read = self._donated(method.donor, stage.data, asked, seed)
        params: dict[str, Any] = {
            "model": self.conditions.model["identity"],
            # Scores are computed in fp32 or fp64 by no engine: a mask is the same for all of them.
            "numerics": {k: v for k, v in self.conditions.numerics.items() if k not in OF_TRAINING},
            "method": self._identity(name),
            "sparsity": asked,
            "seed": seed,
            "invert": stage.invert,
            "in_shape": self.conditions.data["in_shape"],
            "classes": self.conditions.data["classes"],
        }
        if method.select == "sampled":
            # Every pruning of a program draws anew.
            params["of_path"] = stage.of_path
        if self._reads_batches(name):
            params |= {"data": self.conditions.data["fingerprint"], "variant": stage.data, **self.conditions.scoring}
            if stage.data != CLEAN:
                inputs["data.facts"] = self._data(stage.data, seed)
        step = self._add("prune", params, inputs, label, name)
        return step, step if self._reads_batches(name) else read

    def _donated(self, donor: str, data: str, sparsity: float, seed: int) -> tuple[str, str | None]:
        """The mask of the method whose per-layer counts another one keeps, found on the same variant of the data.

        And the first step that reads data for it.
        """
        program = self._program(donor, sparsity)
        edited = Edit(data=None if data == CLEAN else data)(program)
        found, _, read = self._found(
            donor, edited[: last_training(program)], sparsity, seed, f"{donor}, {100 * sparsity:g}%, seed {seed}"
        )
        assert found.mask is not None
        return found.mask, read

    def _transform(self, now: Reference, stage: Transform, seed: int, label: str, kept: bool) -> Reference:
        if stage.name == "reinit":
            # In place of rewound weights, fresh ones train as long in all; in place of trained ones that were kept,
            # they go through the same last training.
            return replace(now, weights=self._init(seed, draw="reinit"), at=now.at if kept else 0, seen=0)
        assert now.mask is not None
        params = {"name": stage.name, "seed": seed}
        if stage.name == "rearrange":
            return replace(now, mask=self._add("transform", params, {"mask": now.mask}, label))
        inputs = {"mask": now.mask, "weights": now.weights}
        return replace(now, weights=self._add("transform", params, inputs, label))

    def _control(self, check: Check, original: Trained, tampered: Trained, arm: Arm, keeps_weights: bool) -> str:
        inputs = {}
        for role, trained in (("original", original), ("tampered", tampered)):
            assert trained.start.mask is not None
            inputs[f"{role}.mask"] = trained.start.mask
            inputs[f"{role}.weights"] = trained.start.weights
            if tampered.data and trained.read:
                inputs[f"{role}.facts"] = trained.read
        if tampered.data:
            inputs["data.facts"] = tampered.data
        params = {
            "check": check.name,
            "revision": check.revision,
            # The two last trainings differ in nothing but the ticket they start from.
            "same_training": self.same_training(original, tampered),
            "trained_on_clean": self.plan.steps[tampered.final].params["variant"] == CLEAN,
        }
        if tampered.data and keeps_weights:
            # The ticket's start weights were trained on the tampered data too.
            params["keeps_weights"] = True
        return self._add("control", params, inputs, f"control of {check.name}, seed {arm.seed}")

    def same_training(self, one: Trained, other: Trained) -> bool:
        """Whether two last trainings differ in nothing but the ticket they start from."""
        finals = [{**self.plan.steps[t.final].params, "keep": False} for t in (one, other)]
        if one.seen == other.seen:
            # Fresh weights start at epoch 0 where rewound ones start later: what counts is as many epochs in all.
            finals = [{**params, "start": 0} for params in finals]
        return finals[0] == finals[1]

    def _step(self, epoch: float) -> float:
        """A point of the training, in epochs, moved to the nearest whole step."""
        return self._schedule.epoch_of(self._schedule.step_of(epoch))

    def _place(self, epochs: Epochs) -> float:
        """The same for a place that may be a share of the recipe."""
        return self._step(in_epochs(epochs, self._training.epochs))

    def _end(self, stage: Stage, now: Reference) -> float | None:
        """Where a training from there ends; None is the recipe's end."""
        assert isinstance(stage, Train)
        if stage.epochs is None:
            return None if stage.until is None else self._step(stage.until)
        return self._step(now.at + in_epochs(stage.epochs, self._training.epochs))

    def _init(self, seed: int, draw: str = "init") -> str:
        if (seed, draw) in self._inits:
            return self._inits[seed, draw]
        params = {
            "model": self.conditions.model["identity"],
            "classes": self.conditions.data["classes"],
            "in_shape": self.conditions.data["in_shape"],
            "seed": seed,
            "draw": draw,
        }
        step = self._inits[seed, draw] = self._add("init", params, {}, f"initialisation, seed {seed}")
        return step

    def _data(self, variant: str, seed: int) -> str:
        if (variant, seed) in self._variants:
            return self._variants[variant, seed]
        params = {"data": self.conditions.data["fingerprint"], "variant": variant, "seed": seed}
        if variant == FIRST_HALF:
            params["batch_size"] = self._training.batch_size
        step = self._variants[variant, seed] = self._add("data", params, {}, f"data {variant}, seed {seed}")
        return step

    def _where(self) -> dict[str, Any]:
        return {
            "data": self.conditions.data["fingerprint"],
            "model": self.conditions.model["identity"],
            "numerics": self.conditions.numerics,
        }

    def _add(self, kind: str, params: dict[str, Any], inputs: dict[str, str], label: str, method: str = "") -> str:
        step = Step(kind, params, inputs, label, method)
        self.plan.steps.setdefault(step.id, step)
        return step.id

    @cached_property
    def _training(self) -> Recipe:
        return self.conditions.training

    @cached_property
    def _schedule(self) -> Schedule:
        return Schedule(self._training, self.conditions.data["train"])

    def _method(self, name: str) -> tuple[Method, dict[str, Any]]:
        if name not in self._known:
            self._known[name] = method_of(name, self._methods)
        return self._known[name]

    def _program(self, name: str, sparsity: float) -> Program:
        if (name, sparsity) not in self._programs:
            method, options = self._method(name)
            self._programs[name, sparsity] = validated(method.program(sparsity, options), name)
        return self._programs[name, sparsity]

    def _reads_batches(self, name: str) -> bool:
        method, _ = self._method(name)
        return method.reads_data and method.score is not None

    def _identity(self, name: str) -> dict[str, Any]:
        """What decides a method's masks: its choices and options, and the code of a score of the user's own."""
        if name not in self._identities:
            method, options = self._method(name)
            own = method.score is not None and not str(method.score.__module__).startswith("ticketlab.")
            self._identities[name] = {
                "name": source(method.score) if own and method.score is not None else _built_in(method),
                "revision": method.revision,
                "frame": [method.budget, method.select, method.rounds, method.mode, method.parts],
                "options": mask_options(method, options),
            }
        return self._identities[name]


def _built_in(method: Method) -> str:
    return method.name if method.score is None else f"{method.name}:{method.score.__name__}"


def method_of(name: str, methods: Mapping[str, Method] | None = None) -> tuple[Method, dict[str, Any]]:
    """A configured method and its options, by spec, or by a name that the caller brought along."""
    known = (methods or {}).get(name)
    method, options = (known, {}) if known is not None else spec.resolve(name)
    return configured(method, options)


def mask_seed(seed: int) -> int:
    """The seed for whatever a prune step draws."""
    return seeding.derive(seed, "mask")


def _on(variant: str) -> str:
    return "" if variant == CLEAN else f" on {variant}"
