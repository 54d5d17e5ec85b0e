"""The registry of pruning methods: name -> its choices, defaults, paper, and what is true of it.

A method is five small choices (score, budget, selection, rounds, program) and the facts that the generic tests and
the checks read. Adding one is a score function and an entry here, or ``ticketlab.register`` in the user's own code.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ticketlab import program as programs
from ticketlab import rounds as paths
from ticketlab.errors import InputError, unknown
from ticketlab.program import Program
from ticketlab.scores import sketch_jacobian as sketching
from ticketlab.scores.grasp import grasp
from ticketlab.scores.magnitude import magnitude
from ticketlab.scores.obd import check_options, obd
from ticketlab.scores.sketch_jacobian import sketch_jacobian, sketch_ntk
from ticketlab.scores.snip import snip
from ticketlab.scores.synflow import synflow, synflow_l2
from ticketlab.scoring import MODES, ScoreFunction
from ticketlab.select import SELECTIONS

BUDGETS = ("global", "uniform", "erk", "smart")
RATIOS = "ratios:"


@dataclass(frozen=True)
class Method:
    """How a mask is found.

    Attributes:
        score: ``(Scoring) -> {name: tensor}`` or ``(model, batches, loss) -> {name: tensor}``, high = keep; None
            for methods that only count.
        budget: "global" (one ranking over all layers); "uniform", "erk", "smart" (per-layer counts); or
            "ratios:METHOD", the per-layer counts of another method's ticket, whose options follow slashes
            ("ratios:grasp/temperature=1").
        select: "top-k", "random", "inverted" or "sampled" (drawn in proportion to the score).
        rounds: prune this often on the exponential path, scoring anew each time.
        mode: of the scoring copy: "train", "eval" or "keep". Decides what batch norm does.
        program: makes the program from the options it takes and the sparsity.
        options: every option and its default; others are refused.
        parts: into how many batches a study splits the scoring sample.
        passes: forward-plus-backward passes over the scoring sample, for time estimates.
        reads_data, reads_weights, needs_trained: what scoring depends on: a batch of data, the weights as they
            are, weights that were trained (then the program trains them, and data matter through them).
        blind: options under which the score reads no data after all.
        uniform: whether a sampled method's draw ignores how high scores are (set by its options).
        check_options: refuses options of the score that it could not work with, before any training.
        retraining: what the ticket's last training starts from, in words; empty if it is the initialisation.
    """

    name: str
    score: ScoreFunction | None = None
    budget: str = "global"
    select: str = "top-k"
    rounds: int = 1
    mode: str = "train"
    program: Callable[[float, Mapping[str, Any]], Program] = lambda sparsity, options: programs.at_init()
    options: Mapping[str, Any] = field(default_factory=dict)
    paper: str = ""
    summary: str = ""
    parts: int = 1
    passes: float = 1.0
    reads_data: bool = True
    reads_weights: bool = True
    needs_trained: bool = False
    retraining: str = ""
    check_options: Callable[..., None] | None = None
    blind: Mapping[str, Any] = field(default_factory=dict)
    uniform: bool = False
    revision: int = 1

    @property
    def donor(self) -> str | None:
        """The spec of the method whose per-layer counts this one keeps, if it takes those of another."""
        return self.budget.removeprefix(RATIOS).replace("/", ",") if self.budget.startswith(RATIOS) else None

    @property
    def needs(self) -> str:
        """What the method needs, in words."""
        needs = [*(["data"] if self.reads_data else []), *(["a trained net"] if self.needs_trained else [])]
        return " and ".join(needs) or "nothing"


def _retrained(back: str | None) -> Callable[[float, Mapping[str, Any]], Program]:
    """Train, prune, go ``back`` ("weights", "schedule" or not at all), train again; in one or several rounds."""

    def program(sparsity: float, options: Mapping[str, Any]) -> Program:
        to = options.get("rewind", 0.0)
        rewind = None if back is None else programs.Rewind(to, weights=back == "weights")
        return programs.retrained(rewind, _rounds(sparsity, options), options.get("epochs"))

    return program


def _rounds(sparsity: float, options: Mapping[str, Any]) -> int:
    asked = options.get("rounds", 1)
    if asked != int(asked) or asked < 0:
        raise InputError(f"asked to prune in {asked} rounds, got no whole number of them (0 takes as many as needed).")
    return int(asked or paths.rounds_needed(sparsity, options["share"]))


_FRAME: dict[str, Any] = {"mode": None, "select": None, "budget": None, "rounds": None}
# How a mask is sampled: the power of the score, the share of uniform drawing, whether a weight may be drawn again, and
# whether an iterative method draws in every round or takes the top-k in all but the last.
_DRAW: dict[str, Any] = {"temperature": 1.0, "mix": 0.0, "replacement": False, "draw": "every"}
DRAWS = ("every", "last")
_COLDEST = 1e6
SAMPLED = "+sampled"
# Of which outputs, on which inputs, the columns of the Jacobian are.
_COLUMNS = {"columns": "exact", "draws": 100, "inputs": "data", "examples": 100}
_SMART = {"form": "resnet", "linear_keep": 0.3, "decay": "quadratic", "compat": None, "floor": 0}
# How a pruned net is trained again: one round or several, for as long as the first time or for less.
_RETRAIN: dict[str, Any] = {"rewind": "25%", "epochs": "100%", "rounds": 1, "share": 0.2}
# One ranking over all layers may leave the linear ones out, though they count: so the authors' code does it.
_CLASSIFIER = {"classifier": "pruned"}
_WEIGHTS_BACK = "weights and batch-norm statistics of epoch `rewind`, its learning rate and data order; momentum zero"
_SCHEDULE_BACK = (
    "trained weights and batch-norm statistics; learning rate and data order of epoch `rewind`; momentum zero"
)
_GOING_ON = "trained weights and batch-norm statistics; the recipe's last learning rate, new data orders; momentum zero"


def _of_trained(name: str, **choices: Any) -> Method:
    """A method that ranks trained weights, by their magnitude unless it says otherwise."""
    usual: dict[str, Any] = {"score": magnitude, "mode": "keep", "reads_data": False, "passes": 0}
    return Method(name, needs_trained=True, **{**usual, **choices})


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "random",
            budget="uniform",
            select="random",
            reads_data=False,
            reads_weights=False,
            passes=0,
            summary="uniformly random positions, the same keep ratio in every layer",
            paper="baseline",
        ),
        Method(
            "erk",
            budget="erk",
            select="random",
            reads_data=False,
            reads_weights=False,
            passes=0,
            summary="random positions, Erdős-Rényi-kernel keep ratios",
            paper="Evci et al., ICML 2020",
        ),
        Method(
            "smart-ratio",
            budget="smart",
            select="random",
            reads_data=False,
            reads_weights=False,
            passes=0,
            options=_SMART,
            summary="the random ticket: random positions, keep ratios that fall with depth",
            paper="Su et al., NeurIPS 2020",
        ),
        Method(
            "magnitude",
            score=magnitude,
            reads_data=False,
            passes=0,
            mode="keep",
            summary="the largest weights at initialisation, over all layers",
            paper="Frankle et al., ICLR 2021",
        ),
        Method(
            "snip",
            score=snip,
            options={"accumulate": "gradient"},
            summary="connection sensitivity |w dL/dw| at initialisation",
            paper="Lee et al., ICLR 2019",
        ),
        Method(
            "grasp",
            score=grasp,
            options={"temperature": 200.0, "redraw_classifier": True},
            parts=2,
            passes=4,
            summary="gradient flow w (Hg) at initialisation",
            paper="Wang et al., ICLR 2020",
        ),
        Method(
            "synflow",
            score=synflow,
            rounds=100,
            mode="eval",
            reads_data=False,
            options={"bias": "keep"},
            passes=2,
            summary="synaptic flow, data-free, 100 rounds",
            paper="Tanaka et al., NeurIPS 2020",
        ),
        Method(
            "synflow-l2",
            score=synflow_l2,
            rounds=100,
            mode="eval",
            reads_data=False,
            options={"bias": "keep"},
            passes=2,
            summary="synaptic flow by l2 lengths of paths: squared weights, then the root, 100 rounds",
            paper="derived from Bar & Giryes 2023",
        ),
        Method(
            "sketch-jacobian",
            score=sketch_jacobian,
            mode="eval",
            options=_COLUMNS,
            check_options=sketching.check_options,
            blind={"inputs": "gaussian"},
            passes=10,
            summary="the best sketch of the outputs: column lengths of the Jacobian times |w|",
            paper="derived from Bar & Giryes 2023",
        ),
        Method(
            "sketch-ntk",
            score=sketch_ntk,
            mode="eval",
            options=_COLUMNS,
            check_options=sketching.check_options,
            blind={"inputs": "gaussian"},
            passes=10,
            summary="the best sketch of the tangent kernel: squared column lengths of the Jacobian",
            paper="derived from Bar & Giryes 2023",
        ),
        _of_trained(
            "lottery",
            program=_retrained("weights"),
            options={"rewind": 0.0, **_CLASSIFIER},
            retraining=_WEIGHTS_BACK,
            summary="train, remove the smallest weights at once, rewind, train again",
            paper="Frankle & Carbin, ICLR 2019; one-shot as in Su et al., NeurIPS 2020",
        ),
        _of_trained(
            "imp",
            program=_retrained("weights"),
            options={"rewind": 0.0, "share": 0.2, "rounds": 0},
            retraining=_WEIGHTS_BACK,
            summary="iterative magnitude pruning, 20% of the rest each time, with rewinding",
            paper="Frankle & Carbin, ICLR 2019; Frankle et al., ICML 2020",
        ),
        _of_trained(
            "weight-rewinding",
            program=_retrained("weights"),
            options={**_RETRAIN, "epochs": None, **_CLASSIFIER},
            retraining=_WEIGHTS_BACK,
            summary="train, remove the smallest weights, take weights and schedule back, train to the end again",
            paper="Frankle et al., ICML 2020; Renda et al., ICLR 2020",
        ),
        _of_trained(
            "lr-rewinding",
            program=_retrained("schedule"),
            options={**_RETRAIN, **_CLASSIFIER},
            retraining=_SCHEDULE_BACK,
            summary="train, remove the smallest weights, keep the others and replay the learning rates",
            paper="Renda et al., ICLR 2020; rewound to epoch 40 of 160 for 160 more in Su et al., NeurIPS 2020",
        ),
        _of_trained(
            "fine-tuning",
            program=_retrained(None),
            options={"epochs": "25%", "rounds": 1, "share": 0.2, **_CLASSIFIER},
            retraining=_GOING_ON,
            summary="train, remove the smallest weights, train on at the last learning rate",
            paper="Han et al., NeurIPS 2015",
        ),
        _of_trained(
            "hybrid",
            program=_retrained("schedule"),
            budget="smart",
            options={**_SMART, **_RETRAIN},
            retraining=_SCHEDULE_BACK,
            summary="the random ticket's counts, the largest trained weights of each layer, learning rates replayed",
            paper="Su et al., NeurIPS 2020",
        ),
        _of_trained(
            "obd",
            score=obd,
            mode="eval",
            program=_retrained("schedule"),
            options={"curvature": "exact", "draws": 100, "images": 0, **_RETRAIN},
            check_options=check_options,
            reads_data=True,
            passes=30,
            retraining=_SCHEDULE_BACK,
            summary="optimal brain damage: half the curvature times the squared trained weight",
            paper="LeCun, Denker & Solla, NeurIPS 1989",
        ),
    )
}


def sampled(method: Method) -> Method:
    """The method's twin that draws its mask in proportion to the score, where the other takes the highest.

    Raises:
        InputError: it has no score.
    """
    if method.score is None:
        raise InputError(f"asked for {method.name}{SAMPLED}, got a method without a score to sample by.")
    return replace(
        method,
        name=f"{method.name}{SAMPLED}",
        select="sampled",
        summary=f"{method.summary}; drawn in proportion to the score",
        paper=f"{method.paper}; Bar & Giryes 2023".lstrip("; "),
    )


def draw_option(method: Method, name: str) -> str:
    """What an option of the draw is called: its name, or ``draw_NAME`` where the method has an option of that name."""
    while name in method.options:
        name = f"draw_{name}"
    return name


def draw_of(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a sampled method's draw, by their plain names; none for another method."""
    return {name: options[draw_option(method, name)] for name in _DRAW} if method.select == "sampled" else {}


METHODS |= {twin.name: twin for twin in [sampled(m) for m in METHODS.values() if m.score is not None]}


def register(method: Method) -> Method:
    """Add a method of your own under its name, for ``prune``, ``check`` and the command line.

    If it has a score, its sampled twin is added too, as ``NAME+sampled``.

    Raises:
        InputError: the name is taken, or one of the choices is unknown.
    """
    found = validated(method)
    twins = [sampled(found)] if found.score is not None and found.select != "sampled" else []
    for name in (m.name for m in (found, *twins)):
        if name in METHODS:
            raise InputError(f"asked to register {method.name!r}, got a name that is taken: {name!r}.")
    METHODS.update({m.name: m for m in (found, *twins)})
    return method


def validated(method: Method) -> Method:
    """The same method, after checking its choices."""
    for kind, asked, known in (
        ("budget", method.budget, BUDGETS),
        ("selection", method.select, tuple(SELECTIONS)),
        ("mode", method.mode, MODES),
    ):
        if asked not in known and not (kind == "budget" and str(asked).startswith(RATIOS)):
            raise unknown(kind, asked, known)
    if method.score is None and method.select != "random":
        raise InputError(f"method {method.name!r} selects by {method.select!r}, got no score to select by.")
    if method.score is not None and method.select == "random":
        method = replace(method, score=None)
    if not isinstance(method.rounds, int) or method.rounds < 1:
        raise InputError(f"asked {method.name} for {method.rounds} rounds, got fewer than one.")
    return method


def configured(method: Method, options: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """The method with its frame options (mode, select, budget, rounds) set, and the options left for its parts.

    Raises:
        InputError: an option that the method does not have, or a value of the wrong kind.
    """
    frame = {name: value for name, value in options.items() if name in _FRAME and name not in method.options}
    framed = validated(replace(method, **frame))
    own = dict(method.options)
    if framed.budget == "smart":
        own = {**_SMART, **own}
    if framed.select == "sampled":
        own |= {draw_option(method, name): default for name, default in _DRAW.items()}
    for name, value in options.items():
        if name in frame:
            continue
        if name in _EPOCHS and name in own and not _takes(method.score, name):
            unset = value is None and name == "epochs"
            own[name] = None if unset else programs.epochs_of(value, f"{method.name},{name}")
        elif name in own:
            own[name] = _same_kind(method.name, name, own[name], value)
        else:
            raise unknown(f"option of {method.name}", name, [*own, *_FRAME])
    if method.check_options is not None:
        method.check_options(**own)
    _check_draw(framed, draw_of(framed, own))
    if draw := draw_of(framed, own):
        framed = replace(framed, uniform=draw["temperature"] == 0 or draw["mix"] == 1)
    if framed.blind and all(own.get(name) == value for name, value in framed.blind.items()):
        framed = replace(framed, reads_data=False)
    return framed, own


def _check_draw(method: Method, draw: Mapping[str, Any]) -> None:
    """Refuse draws that are none."""
    if not draw:
        return
    power = f"score^{draw['temperature']:g}"
    if draw["temperature"] < 0:
        raise InputError(f"asked {method.name} for {power}, got a power below 0: use select=inverted.")
    if draw["temperature"] > _COLDEST:
        raise InputError(f"asked {method.name} for {power}, got a power above {_COLDEST:g}: use select=top-k.")
    if not 0 <= draw["mix"] <= 1:
        raise InputError(f"asked {method.name} to mix in a share of {draw['mix']:g}, got none: it needs 0 <= mix <= 1.")
    if draw["draw"] not in DRAWS:
        raise unknown(f"round of {method.name} to draw in", draw["draw"], DRAWS)


# Options that are places or lengths of the training.
_EPOCHS = ("rewind", "epochs")


def _takes(score: ScoreFunction | None, name: str) -> bool:
    """Whether an option is the score's own: then it means whatever the score says."""
    return score is not None and name in inspect.signature(score).parameters


def _same_kind(method: str, name: str, default: Any, value: Any) -> Any:
    if isinstance(default, bool) != isinstance(value, bool) or (
        isinstance(default, (int, float)) and not isinstance(value, (int, float))
    ):
        raise InputError(f"asked for {method},{name}={value!r}, got a default of {default!r}: give the same kind.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"asked for {method},{name}={value!r}, got no finite number.")
    return type(default)(value) if isinstance(default, float) else value
