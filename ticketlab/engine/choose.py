"""Which engine trains a study: measured once, when the study is planned, and written into it."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ticketlab import budget, seeding, select
from ticketlab.data.types import Data
from ticketlab.engine.convolution import small_maps
from ticketlab.engine.engine import Engine
from ticketlab.engine.feed import Feed
from ticketlab.engine.job import Job, clones, tensors_of
from ticketlab.engine.kinds import example, open_engine, parse
from ticketlab.engine.precision import numerics
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.measurements import keep, place, recalled
from ticketlab.parameters import prunable
from ticketlab.processor import processor
from ticketlab.sparse.library import level
from ticketlab.sparse.revision import revision

# Raised when an engine's speed may have changed: older measurements are not believed any more.
_REVISION = 1
# A compiled engine is tried only where it could pay for its compilation many times over (seconds of training).
_WORTH_STACKING = 240.0
_WORTH_COMPILING = 3600.0
# Its kernels take half a minute to build, once; what they save on such tickets is a part of the plan.
_WORTH_SPARSE = 120.0
# Another engine than "tuned" must be this much faster: a choice should not hang on noise.
_CLEARLY = 0.9
_STACKABLE = 1_000_000


@dataclass(frozen=True)
class Work:
    """A plan's trainings on one worker: images to train on and to test, and how many tickets there are.

    ``shares``: which part of the images goes through tickets of which sparsity; the rest goes through dense nets.
    """

    train_images: float
    test_images: float
    tickets: int
    shares: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Speed:
    """What an engine was measured at: images per second of all its tickets together, and seconds to set it up."""

    spec: str
    train_images_s: float
    test_images_s: float
    setup_s: float

    def seconds(self, train_images: float, test_images: float) -> float:
        """The time for so many images on one worker."""
        return self.setup_s + train_images / self.train_images_s + test_images / self.test_images_s

    def plan(self, work: Work) -> float:
        """The time for a worker's tickets. A pack with free places takes as long as a full one."""
        _, width = parse(self.spec)
        filled = -(-work.tickets // width) * width / work.tickets if work.tickets else 1.0
        return self.seconds(work.train_images * filled, work.test_images * filled)


def candidates(template: nn.Module, data: Data, device: str) -> list[str]:
    """The engines that could serve a model on a device, the ones without a compiler first."""
    if torch.device(device).type == "cuda":
        return ["plain", "tuned", "graph:8", "compiled"]
    with seeding.isolated(0, "shape"):
        small = bool(small_maps(copy.deepcopy(template).cpu(), example(data, torch.device("cpu"))))
    parameters = sum(p.numel() for p in template.parameters())
    return [
        "plain",
        "tuned",
        *(["tuned+im2col"] if small else []),
        "sparse",
        *(["stacked:8"] if parameters <= _STACKABLE else []),
        "compiled",
        *(["compiled+im2col"] if small else []),
    ]


def measure(
    spec: str,
    template: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    precision: str = "fp32",
    device: str = "cpu",
    threads: int = 1,
    seconds: float = 0.4,
    sparsity: float = 0.9,
) -> Speed:
    """Open an engine and time a few of its steps (about ``seconds``, at least three), after a warm-up.

    Args:
        sparsity: of the ticket that is trained. Only the engine "sparse" gets one, as others take as long for any.

    Raises:
        InputError: the engine is not to be had for this model, device or precision.
    """
    try:
        with numerics(threads, precision), seeding.isolated(0, "measure"):
            mask = _some_mask(template, sparsity) if spec == "sparse" else None
            if mask is not None:
                # Kernels that are not there yet are built once for all studies: no part of setting up this one.
                level()
            return _measured(spec, template, data, recipe, mask, precision, device, seconds)
    except InputError:
        raise
    except Exception as error:
        # A compiler that is not there, an operation that it does not know: such an engine is not to be had here.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"asked for engine {spec!r}, got one that fails here: {first[:200]}") from error


def _some_mask(template: nn.Module, sparsity: float) -> Mask:
    """Random positions at smart ratios, whose first layers are nearly dense; uniform ones where those cannot be."""
    try:
        counts = budget.smart(template, sparsity)
    except InputError:
        counts = budget.uniform(template, sparsity)
    return Mask(select.at_random({}, counts, dict(Mask.dense(prunable(template))), 0))


def _measured(
    spec: str,
    template: nn.Module,
    data: Data,
    recipe: Recipe,
    mask: Mask | None,
    precision: str,
    device: str,
    seconds: float,
) -> Speed:
    where = torch.device(device)
    size = min(recipe.batch_size, len(data.train))
    started = time.perf_counter()
    engine = open_engine(spec, template, data, recipe, precision=precision, device=device)
    weights = clones(tensors_of(template))
    engine.load([Job(weights, mask, seed) for seed in range(engine.width)])
    split = data.train.take(torch.arange(size)).to(where)
    splits, seeds = [split] * engine.width, list(range(engine.width))
    feed = Feed(data, splits, seeds, Schedule(replace(recipe, epochs=1, warmup=0), size))
    _timed(engine, feed, 2, where)
    setup = time.perf_counter() - started
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 50):
        times.append(_timed(engine, feed, 1, where))
    test = split.inputs
    tests = [_tested(engine, feed, test, where) for _ in range(3)]
    return Speed(
        spec,
        engine.width * size / statistics.median(times),
        engine.width * size / statistics.median(tests[1:]),
        max(0.0, setup - 2 * statistics.median(times)),
    )


def _timed(engine: Engine, feed: Feed, steps: int, device: torch.device) -> float:
    started = time.perf_counter()
    for step in range(steps):
        inputs, targets = feed.batch(step % feed.steps)
        engine.step(inputs, targets, 1e-4, step)
    _wait(device)
    return time.perf_counter() - started


def _tested(engine: Engine, feed: Feed, inputs: torch.Tensor, device: torch.device) -> float:
    started = time.perf_counter()
    engine.answers(feed.prepared(inputs))
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def chosen(speeds: Sequence[Speed], work: Work) -> Speed:
    """The engine that ends first, set-up included; "tuned" unless another is clearly faster."""
    usual = next((s for s in speeds if s.spec == "tuned"), speeds[0])
    best = min(speeds, key=lambda speed: speed.plan(work))
    return best if best.plan(work) < _CLEARLY * usual.plan(work) else usual


def choose(known: Measurements, work: Work) -> Speed:
    """Measure the engines that may be worth it for a plan, and choose.

    Raises:
        InputError: no engine can train the model.
    """
    specs = known.candidates()
    quick = [s for s in specs if not s.startswith(("sparse", "stacked", "compiled"))]
    speeds = [s for s in (known.speed(spec, work) for spec in quick) if s is not None]
    if not speeds:
        known.needed("tuned")
    least = min(s.plan(work) for s in speeds)
    for spec in (s for s in specs if s not in quick):
        if least > _worth(spec, work) and (found := known.speed(spec, work)) is not None:
            speeds.append(found)
    return chosen(speeds, work)


def _worth(spec: str, work: Work) -> float:
    """How many seconds a plan must take for an engine to be tried."""
    if spec == "sparse":
        # Tickets that cost nothing at all would leave the dense trainings.
        return _WORTH_SPARSE if 1 - sum(work.shares.values()) < _CLEARLY else math.inf
    return _WORTH_STACKING if spec.startswith("stacked") else _WORTH_COMPILING


def mixed(spec: str, parts: Sequence[tuple[float, Speed]]) -> Speed:
    """The speed of an engine on a plan: shares of its images, and the speed at each."""

    training = sum(share / speed.train_images_s for share, speed in parts)
    testing = sum(share / speed.test_images_s for share, speed in parts)
    return Speed(spec, 1 / training, 1 / testing, max(speed.setup_s for _, speed in parts))


class Measurements:
    """What engines were measured at for one model on this machine.

    Kept in the user's cache folder, so that the next study of the same model need not measure again, and chooses alike.

    Args:
        identity: a hash of what decides the model's computation.
    """

    def __init__(
        self,
        template: nn.Module,
        data: Data,
        recipe: Recipe,
        *,
        identity: str,
        precision: str = "fp32",
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._arguments = (template, data, recipe)
        self._how: dict[str, Any] = {"precision": precision, "device": device, "threads": threads}
        machine = [torch.__version__, torch.backends.cpu.get_cpu_capability(), _processor(device)]
        what = [identity, list(data.in_shape), data.classes, recipe.batch_size, recipe.augment, self._how]
        self._file = place("engines", [_REVISION, machine, what])

    def candidates(self) -> list[str]:
        """The engines that could serve the model here."""
        template, data, _ = self._arguments
        found = candidates(template, data, self._how["device"])
        return [spec for spec in found if spec != "sparse" or self._how["precision"] == "fp32"]

    def needed(self, spec: str, sparsity: float | None = None) -> Speed:
        """An engine's speed, known or measured now.

        Args:
            sparsity: of the tickets, for the engine "sparse".

        Raises:
            InputError: the engine is not to be had for this model, device or precision.
        """
        held = self._read()
        # Those of other kernels, or of another ticket, say nothing.
        name = spec if sparsity is None else f"{spec}@{sparsity:g}@{level()}-{revision()}"
        if name not in held:
            template, data, recipe = self._arguments
            how = self._how if sparsity is None else {**self._how, "sparsity": sparsity}
            held[name] = measure(spec, template, data, recipe, **how)
            keep(self._file, {name: asdict(speed) for name, speed in held.items()})
        return held[name]

    def of_plan(self, spec: str, work: Work) -> Speed:
        """An engine's speed on a plan as a whole.

        Raises:
            InputError: the engine is not to be had for this model, device or precision.
        """
        if spec != "sparse":
            return self.needed(spec)
        tickets = [(share, self.needed(spec, sparsity)) for sparsity, share in work.shares.items()]
        dense = max(0.0, 1 - sum(work.shares.values()))
        return mixed(spec, [*([(dense, self.needed("tuned"))] if dense or not tickets else []), *tickets])

    def speed(self, spec: str, work: Work) -> Speed | None:
        """The same, or None if the engine is not to be had."""
        try:
            return self.of_plan(spec, work)
        except InputError:
            return None

    def _read(self) -> dict[str, Speed]:
        held = recalled(self._file)
        with suppress(TypeError, AttributeError):
            whole = {name: Speed(**entry) for name, entry in held.items() if _whole(entry)}
            return {name: speed for name, speed in whole.items() if speed.spec == name.partition("@")[0]}
        return {}


def _whole(entry: Any) -> bool:
    """Whether an entry of the file can be believed."""
    if {*entry} != {"spec", "train_images_s", "test_images_s", "setup_s"} or not isinstance(entry["spec"], str):
        return False
    numbers = [entry["train_images_s"], entry["test_images_s"], entry["setup_s"]]
    return (
        all(isinstance(n, float) and math.isfinite(n) for n in numbers)
        and min(numbers[:2]) > 0 <= numbers[2]
        and max(numbers) < 1e12
    )


def _processor(device: str) -> str:
    if torch.device(device).type == "cuda":
        return str(torch.cuda.get_device_name(torch.device(device)))
    return processor()
