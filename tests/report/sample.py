"""A made-up but realistic results document: void, undecided, collapsed and missing rows, small and deep nets."""

from __future__ import annotations

import math
import random
from typing import Any

CHECKS = {
    "rearrange": ("positions rearranged within each layer", "which positions are kept matters"),
    "shuffle": ("kept weights' values shuffled within each layer", "the kept initial values matter"),
    "corrupt": ("labels randomised while the mask is found", "the data the mask saw matters"),
    "versus:smart-ratio": ("a random ticket with smart ratios instead", "the method beats a random ticket"),
    "invert": ("the worst-scored weights kept instead", "the score's order matters"),
}
METHODS = {
    "snip": ("Lee et al. 2019", True),
    "grasp,temperature=1": ("Wang et al. 2020", True),
    "synflow": ("Tanaka et al. 2020", False),
    "magnitude": ("Han et al. 2015", False),
    "scores:my_score": ("", True),
}
SMALL = {"conv1": 144, "conv2": 4608, "conv3": 9216, "fc": 640}
DEEP = {
    "conv1": 432,
    **{
        f"layer{s}.{b}.conv{c}": (2304, 9216, 36864)[s - 1]
        for s in (1, 2, 3)
        for b in range(5 if s < 3 else 6)
        for c in (1, 2)
    },
    "fc": 640,
}


def results(
    seeds: int = 5, sparsities: tuple[float, ...] = (0.9, 0.98), layers: dict[str, int] = SMALL
) -> dict[str, Any]:
    """A whole document; the same arguments always give the same document."""
    rng = random.Random(7)
    family = len(METHODS) * len(CHECKS) * len(sparsities)
    verdicts, controls, missing, runs = [], [], [], []
    dense = [97.1 + rng.gauss(0, 0.35) for _ in range(seeds)]
    runs += [_run("dense", None, "dense", None, i, value) for i, value in enumerate(dense)]
    for method, (_, reads_data) in METHODS.items():
        for sparsity in sparsities:
            base = [96.2 - (2.0 if sparsity > 0.95 else 0) + rng.gauss(0, 0.3) for _ in range(seeds)]
            collapses = method.startswith("grasp") and sparsity == 0.98
            if collapses:
                base[1] = 10.0
            runs += [_run(method, method, "original", sparsity, i, a) for i, a in enumerate(base)]
            for check in CHECKS:
                if check == "corrupt" and not reads_data:
                    continue
                shift = _shift(method, check, sparsity)
                other = [a - shift - rng.gauss(0, 0.25) for a in base]
                if collapses and check in ("rearrange", "invert"):
                    other = [10.0 if i < (4 if check == "invert" else 2) else b for i, b in enumerate(other)]
                if method == "magnitude" and check == "shuffle":
                    other[-1] -= 14
                row = _verdict(method, check, sparsity, base, other, family)
                passed = not (method == "scores:my_score" and check == "shuffle" and sparsity == sparsities[0])
                if not passed:
                    row |= {"verdict": "void", "reason": "control", "qualifier": None, "p_diff": None}
                    row |= {"p_equiv": None, "p_diff_seq": None, "p_equiv_seq": None, "seeds_needed": None}
                row["sentence"] = _sentence(row)
                verdicts.append(row)
                controls.append(_control(method, check, sparsity, passed))
                if not check.startswith("versus:"):
                    arm = f"{method} · {check}"
                    runs += [_run(arm, method, check, sparsity, i, b) for i, b in enumerate(other)]
    missing = [
        {"method": m, "check": "corrupt", "why": "the method does not read data"}
        for m, (_, reads) in METHODS.items()
        if not reads
    ]
    return {
        "format": 1,
        "ticketlab": "0.1.0",
        "title": "five methods on digits / conv",
        "created": "2025-03-04T05:06:07+00:00",
        "command": "ticketlab check snip 'grasp,temperature=1' synflow magnitude scores:my_score --data digits",
        "complete": True,
        "steps_done": 612,
        "steps_total": 612,
        "data": {
            "name": "digits",
            "classes": 10,
            "in_shape": [1, 8, 8],
            "train": 1437,
            "test": 360,
            "chance": 10.0,
            "fingerprint": "9f2c17a4",
        },
        "model": {"name": "conv", "prunable": sum(layers.values()), "parameters": sum(layers.values()) + 106},
        "recipe": {"epochs": 30, "batch_size": 64, "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "decay": [15, 25]},
        "numerics": {"torch": "2.4.1", "device": "cpu", "precision": "float32", "threads_per_ticket": 1},
        "statistics": {
            "alpha": 0.05,
            "margin": 1.74,
            "margin_rule": "2% of dense - chance",
            "multiplicity": "holm",
            "family": "report",
            "family_size": family,
            "test": "paired t and TOST",
            "looks": [5, 10, 20],
            "weights": [0.5, 0.3, 0.2],
            "looks_done": [5],
            "seeds": seeds,
        },
        "dense": {"mean": sum(dense) / seeds, "sd": 0.36, "n": seeds, "values": dense},
        "methods": [{"label": m, "paper": p, "reads_data": r} for m, (p, r) in METHODS.items()],
        "checks": [{"name": c, "phrase": p, "belief": b} for c, (p, b) in CHECKS.items()],
        "sparsities": list(sparsities),
        "verdicts": verdicts,
        "summary_rows": [_summary(m) for m in METHODS],
        "not_applicable": missing,
        "controls": controls,
        "layers": [_layers(m, s, layers, rng) for m in METHODS for s in sparsities],
        "diagnosis": [
            {
                "label": m,
                "sparsity": s,
                "empty_layers": ["conv1"] if m.startswith("grasp") and s == 0.98 else [],
                "dead_units": 12.0 if s == 0.98 else 0.0,
                "effective_sparsity": s + 0.004,
            }
            for m in METHODS
            for s in sparsities
        ],
        "runs": runs,
        "answer": "Of five methods, only snip at 98% depends on which positions it keeps; for the others a random "
        "ticket with the same layer ratios does as well, or the question is still open.",
    }


def empty() -> dict[str, Any]:
    """A study that has only just started."""
    full = results()
    keep = ("format", "ticketlab", "title", "created", "command", "data", "model", "recipe", "numerics", "statistics")
    started = {key: full[key] for key in keep}
    lists = ("verdicts", "summary_rows", "not_applicable", "controls", "layers", "diagnosis", "runs")
    started |= {key: [] for key in lists}
    return started | {
        "complete": False,
        "steps_done": 0,
        "steps_total": 612,
        "dense": None,
        "methods": full["methods"],
        "checks": full["checks"],
        "sparsities": full["sparsities"],
        "answer": "",
    }


def partial() -> dict[str, Any]:
    """A study that was stopped half-way: pending runs, verdicts for one sparsity only."""
    part = results()
    part["verdicts"] = [row for row in part["verdicts"] if row["sparsity"] == 0.9][:7]
    for run in part["runs"][60:]:
        run |= {"accuracy": None, "best": None, "epochs_seen": None, "seconds": None, "status": "pending"}
    return part | {"complete": False, "steps_done": 60, "controls": part["controls"][:3], "layers": []}


def _shift(method: str, check: str, sparsity: float) -> float:
    if check == "invert":
        return 6.0 if sparsity < 0.95 else 21.0
    if check == "versus:smart-ratio":
        return {"synflow": -2.6, "snip": 0.9}.get(method, 0.2)
    if method == "snip" and check == "rearrange":
        return 3.4 if sparsity > 0.95 else 0.25
    return 0.1 if check == "rearrange" else 0.0


def _verdict(
    method: str, check: str, sparsity: float, base: list[float], other: list[float], family: int
) -> dict[str, Any]:
    n = len(base)
    dead = [sum(a < 18 for a in base), sum(b < 18 for b in other)]
    pairs = [a - b for a, b in zip(base, other, strict=True) if a >= 18 and b >= 18]
    drop = sum(pairs) / len(pairs) if pairs else None
    sd = math.sqrt(sum((d - (drop or 0)) ** 2 for d in pairs) / max(1, len(pairs) - 1))
    half = 6.2 * max(sd, 0.11) / math.sqrt(n)
    bare = len(pairs) < 3
    row: dict[str, Any] = {
        "method": method,
        "check": check,
        "sparsity": sparsity,
        "n": n,
        "drop": drop,
        "ci_low": None if bare or drop is None else drop - half,
        "ci_high": None if bare or drop is None else drop + half,
        "ci_level": 1 - 0.05 / family,
        "eq_low": None if bare or drop is None or any(dead) else drop - 0.8 * half,
        "eq_high": None if bare or drop is None or any(dead) else drop + 0.8 * half,
        "eq_level": 1 - 0.1 / family,
        "margin": 1.74,
        "p_diff": 0.0123,
        "p_equiv": 0.0004,
        "p_diff_seq": 0.0246,
        "p_equiv_seq": 0.00003,
        "cut_diff": 0.05 / family,
        "cut_equiv": 0.05 / (family - 9),
        "qualifier": None,
        "reason": None,
        "decided_at": n,
        "dead": dead,
        "stragglers": sum(b < 85 for b in other if b > 18) if check == "shuffle" else 0,
        "sd": sd,
        "correlation": 0.42,
        "seeds_needed": None,
        "population_low": None,
        "population_high": None,
        "population_holds": None,
    }
    return row | _decide(row)


def _decide(row: dict[str, Any]) -> dict[str, Any]:
    n, (x, y) = row["n"], row["dead"]
    if 2 * x > n and 2 * y > n:
        return {"verdict": "void", "reason": "both at chance"}
    if y - x > n / 2:
        return {"verdict": "uses", "reason": "collapse"}
    if x or y or row["stragglers"]:
        return {"verdict": "undecided", "reason": "unstable", "decided_at": None, "seeds_needed": [14, 20, 48]}
    if row["ci_low"] > 0 and row["eq_high"] < row["margin"]:
        return {"verdict": "does not use", "qualifier": "negligible use"}
    if row["ci_low"] > 0:
        return {
            "verdict": "uses",
            "qualifier": "by more than the margin" if row["ci_low"] > row["margin"] else None,
        }
    if row["ci_high"] < 0:
        return {"verdict": "better without"}
    if row["eq_low"] > -row["margin"] and row["eq_high"] < row["margin"]:
        held = row["method"] != "magnitude"
        return {"verdict": "does not use", "population_low": -1.9, "population_high": 1.1, "population_holds": held}
    return {"verdict": "undecided", "decided_at": None, "seeds_needed": [8, 10, 17]}


def _sentence(row: dict[str, Any]) -> str:
    subject = CHECKS[row["check"]][0].capitalize()
    n, (x, y) = row["n"], row["dead"]
    span = f"{row['ci_low']:.2f} to {row['ci_high']:.2f}; {n} seeds" if row["ci_low"] is not None else f"{n} seeds"
    if row["reason"] == "control":
        return "Void: the control failed, so this row says nothing about the method."
    return {
        "void": f"Void: {x} of {n} original and {y} of {n} tampered tickets are at chance; nothing to compare.",
        "uses": f"{subject}: this costs {row['drop'] or 0:.2f} points ({span}). The result depends on it.",
        "better without": f"{subject}: better by {-(row['drop'] or 0):.2f} points ({span}).",
        "does not use": f"{subject}: accuracy changes by less than the margin of 1.74 points ({span}). No ticket "
        "collapsed; collapse in up to 45% of seeds is not excluded.",
        "undecided": f"Undecided: anything in {span} fits. About 5 more seeds (10 in all) would decide.",
    }[row["verdict"]]


def _summary(method: str) -> dict[str, Any]:
    bare: dict[str, Any] = {"method": method, "check": "rearrange", "n": 5, "qualifier": None}
    if method.startswith("grasp"):
        none = dict.fromkeys(("drop", "ci_low", "ci_high", "verdict", "n"))
        return bare | none | {"note": "tickets at chance at 98%"}
    return bare | {"drop": 0.31, "ci_low": -0.12, "ci_high": 0.74, "verdict": "does not use", "note": ""}


def _control(method: str, check: str, sparsity: float, passed: bool) -> dict[str, Any]:
    summary = {
        "rearrange": "91% of kept positions moved; per-layer counts unchanged",
        "shuffle": "masks unchanged; 99% of kept values moved",
        "corrupt": "90% of labels changed; images unchanged",
        "versus:smart-ratio": "9% of kept positions shared; equal kept counts in all",
        "invert": "0% of kept positions shared; equal kept counts in all",
    }[check]
    if not passed:
        summary = "kept values did not move: the score rescaled them"
    return {
        "method": method,
        "check": check,
        "sparsity": sparsity,
        "passed": passed,
        "summary": summary,
        "facts": {"moved": 0.9134, "counts_unchanged": True, "note": "seed 0"},
    }


def _layers(method: str, sparsity: float, layers: dict[str, int], rng: random.Random) -> dict[str, Any]:
    keep = [min(1.0, (1 - sparsity) * 1.5 * rng.uniform(0.4, 1.6) * (4608 / size) ** 0.3) for size in layers.values()]
    kept = [round(share * size, 1) for share, size in zip(keep, layers.values(), strict=True)]
    if method.startswith("grasp") and sparsity == 0.98:
        kept[0] = 0.0
    return {
        "label": method,
        "sparsity": sparsity,
        "names": list(layers),
        "sizes": list(layers.values()),
        "kept": kept,
    }


def _run(
    arm: str, method: str | None, check: str, sparsity: float | None, seed: int, accuracy: float
) -> dict[str, Any]:
    status = "dead" if accuracy < 18 else "straggler" if accuracy < 60 and check != "invert" else "ok"
    return {
        "arm": arm if check != "original" else f"{method} · original",
        "method": method,
        "check": check,
        "sparsity": sparsity,
        "seed": seed,
        "accuracy": accuracy,
        "best": min(100.0, accuracy + 0.3),
        "epochs_seen": 30,
        "seconds": 4.2 + 0.1 * seed,
        "status": status,
        "step": f"{round(1e6 * accuracy + seed):08x}",
    }
