"""The results document: a pure function of a study's spec and its store, in plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import numpy as np

import ticketlab
from ticketlab import stats
from ticketlab.checks import resolve as resolve_check
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm, Plan, Trained
from ticketlab.experiment.looks import grants
from ticketlab.experiment.pairs import compared, comparison, dense_accuracies, settings_of
from ticketlab.experiment.plan import method_of
from ticketlab.experiment.store import Store
from ticketlab.experiment.study import Compared, Study
from ticketlab.methods import Method
from ticketlab.stats.health import Yardstick, study_yardstick
from ticketlab.stats.verdict import UNDECIDED, VOID

FORMAT = 1


def collect(study: Study, plan: Plan, store: Store, methods: Mapping[str, Method] | None = None) -> dict[str, Any]:
    """What the finished steps of a study say, complete or not. Nothing in it depends on when it is asked."""
    dense = dense_accuracies(plan, store)
    settings, rule = settings_of(study, dense)
    keys = compared(study, plan)
    comparisons = [comparison(plan, store, *key) for key in keys]
    verdicts = [_waiting(v) for v in stats.judge(comparisons, settings)] if settings and comparisons else []
    lines = study_yardstick(comparisons, settings) if settings and comparisons else None
    finite = [a for a in dense if math.isfinite(a)]
    done = [step for step in plan.steps if step in store]
    whole = len(done) == len(plan.steps)
    next_ = grants(study, plan, store) if study.until_decided and whole else {}
    if settings:
        verdicts = [_stopped(v, next_.get(key), settings) for v, key in zip(verdicts, keys, strict=True)]
    return {
        "format": FORMAT,
        "ticketlab": ticketlab.__version__,
        "title": study.title,
        "command": study.command,
        "created": study.created,
        "complete": whole and all(grant.seeds is None for grant in next_.values()),
        "steps_done": len(done),
        "steps_total": len(plan.steps),
        "data": study.data,
        "model": study.model,
        "recipe": study.recipe,
        "numerics": study.numerics,
        "scoring": study.scoring,
        "statistics": _statistics(study, plan, settings, rule, comparisons),
        "dense": _dense(finite),
        "methods": [_method(name, methods) for name in study.methods],
        "checks": [_check(name) for name in study.checks],
        "sparsities": list(study.sparsities),
        "verdicts": [{**v.to_json(), "sentence": stats.sentence(v)} for v in verdicts],
        "summary_rows": _across(comparisons, settings),
        "not_applicable": plan.not_applicable,
        "controls": [c for key in keys for c in _control(plan, store, *key)],
        "layers": _layers(plan, store, study),
        "diagnosis": _diagnosis(plan, store),
        **({"granted": _granted(plan, comparisons, next_)} if study.until_decided else {}),
        "runs": [_run(arm, trained, store, lines) for arm, trained in plan.arms.items()],
        "answer": stats.answer(verdicts) if verdicts else "Nothing to compare yet.",
    }


def as_json(results: Mapping[str, Any]) -> str:
    """The document as text. A NaN would be no JSON, so that it is an error here."""
    return json.dumps(results, indent=1, allow_nan=False)


def _waiting(verdict: stats.Verdict) -> stats.Verdict:
    """A row without a finished pair is open: that no ticket has learned anything yet says nothing."""
    if verdict.n or verdict.verdict != VOID:
        return verdict
    return replace(verdict, verdict=UNDECIDED, reason="no pair of tickets is finished yet")


def _stopped(verdict: stats.Verdict, grant: stats.Grant | None, settings: stats.Settings) -> stats.Verdict:
    """An undecided row that gets no more seeds before the last look says so."""
    if grant is None or grant.seeds is not None or verdict.verdict != UNDECIDED or verdict.n == settings.looks[-1]:
        return verdict
    return replace(verdict, reason="; ".join(filter(None, [verdict.reason, grant.why])))


def _statistics(
    study: Study, plan: Plan, settings: stats.Settings | None, rule: str, comparisons: list[stats.Comparison]
) -> dict[str, Any]:
    looks, seeds, taken = study.statistics["looks"], study.seeds, study.seeds
    if study.until_decided:
        seeds = max((plan.seeds(c.method, c.check, c.sparsity) for c in comparisons), default=0)
        taken = max((c.seeds for c in comparisons), default=0)
    return {
        **study.statistics,
        "margin": settings.margin if settings else None,
        "margin_asked": study.statistics["margin"],
        "margin_rule": rule,
        "family_size": len(comparisons),
        "looks_done": [n for n in looks if n <= taken],
        "seeds": seeds,
    }


def _granted(
    plan: Plan, comparisons: list[stats.Comparison], next_: Mapping[Compared, stats.Grant]
) -> list[dict[str, Any]]:
    """Of each comparison: the seeds that it has been given, those of them that are finished, and why no more come."""
    rows = []
    for c in comparisons:
        key = (c.method, c.check, c.sparsity)
        grant = next_.get(key)
        names = dict(zip(("method", "check", "sparsity"), key, strict=True))
        rows.append({**names, "seeds": plan.seeds(*key), "finished": c.seeds, "why": grant.why if grant else ""})
    return rows


def _dense(finite: list[float]) -> dict[str, Any] | None:
    if not finite:
        return None
    sd = stdev(finite) if len(finite) > 1 else None
    return {"mean": fmean(finite), "sd": sd, "n": len(finite), "values": finite}


def _method(name: str, methods: Mapping[str, Method] | None) -> dict[str, Any]:
    method, options = method_of(name, methods)
    donors = [] if method.donor is None else [method_of(method.donor, methods)[0]]
    plain = {k: v for k, v in options.items() if isinstance(v, (str, int, float, bool, type(None)))}
    return {
        "label": name,
        "paper": method.paper,
        "summary": method.summary,
        "retraining": method.retraining,
        "reads_data": any(m.reads_data or m.needs_trained for m in (method, *donors)),
        "options": plain,
    }


def _check(name: str) -> dict[str, Any]:
    check = resolve_check(name)
    return {"name": check.name, "phrase": check.phrase, "belief": check.belief, "paper": check.paper}


def _across(comparisons: list[stats.Comparison], settings: stats.Settings | None) -> list[dict[str, Any]]:
    rows = []
    for row in stats.across(comparisons, settings) if settings else []:
        mean = row.mean.to_json() if row.mean else {}
        rows.append(
            {
                "method": row.method,
                "check": row.check,
                "sparsities": list(row.sparsities),
                **{k: mean.get(k) for k in ("n", "drop", "ci_low", "ci_high", "verdict", "qualifier")},
                "everywhere": row.everywhere,
                "note": row.note,
            }
        )
    return rows


def _control(plan: Plan, store: Store, method: str, check: str, sparsity: float) -> list[dict[str, Any]]:
    """One row per comparison: the facts averaged over the finished seeds; passed only if every seed passed."""
    seeds = range(plan.seeds(method, check, sparsity))
    found = [store.facts(plan.arms[Arm(method, check, sparsity, s)].control or "") for s in seeds]
    done = [c for c in found if c is not None]
    if not done:
        return []
    bad = next((c for c in done if not c["passed"]), done[0])
    facts = {name: _mean([c["facts"].get(name) for c in done]) for name in bad["facts"]}
    return [
        {
            "method": method,
            "check": check,
            "sparsity": sparsity,
            "passed": all(c["passed"] for c in done),
            "summary": bad["summary"],
            "facts": facts,
            "seeds": len(done),
        }
    ]


def _mean(values: list[Any]) -> Any:
    """Booleans by "all of them", numbers by their mean."""
    if all(isinstance(v, bool) for v in values):
        return all(values)
    if all(isinstance(v, (int, float)) for v in values):
        return fmean(values)
    return values[0]


def _originals(plan: Plan, store: Store) -> dict[tuple[str, float], list[dict[str, Any]]]:
    """The facts of every finished mask of the untampered arms, by method and sparsity."""
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for arm, trained in plan.arms.items():
        facts = store.facts(trained.start.mask) if trained.start.mask else None
        if arm.check == ORIGINAL and arm.sparsity is not None and facts and "kept" in facts:
            found.setdefault((arm.method, arm.sparsity), []).append(facts)
    return found


def _layers(plan: Plan, store: Store, study: Study) -> list[dict[str, Any]]:
    sizes = study.model["layers"]
    return [
        {
            "label": method,
            "sparsity": sparsity,
            "names": list(sizes),
            "sizes": list(sizes.values()),
            "kept": [fmean(f["kept"].get(name, 0) for f in facts) for name in sizes],
        }
        for (method, sparsity), facts in _originals(plan, store).items()
    ]


def _diagnosis(plan: Plan, store: Store) -> list[dict[str, Any]]:
    rows = []
    for (method, sparsity), facts in _originals(plan, store).items():
        effective = [f["effective_sparsity"] for f in facts if f["effective_sparsity"] is not None]
        dead = [f["dead_units"] for f in facts if f["dead_units"] is not None]
        empty = dict.fromkeys(name for f in facts for name in f["empty_layers"])
        rows.append(
            {
                "label": method,
                "sparsity": sparsity,
                "empty_layers": list(empty),
                "dead_units": fmean(dead) if dead else None,
                "effective_sparsity": fmean(effective) if effective else None,
            }
        )
    return rows


def _run(arm: Arm, trained: Trained, store: Store, lines: Yardstick | None) -> dict[str, Any]:
    facts = store.facts(trained.final)
    label = arm.check if arm.check == DENSE else arm.method
    return {
        "arm": label if arm.check in (ORIGINAL, DENSE) else f"{arm.method} · {arm.check}",
        "method": arm.method,
        "check": arm.check,
        "sparsity": arm.sparsity,
        "seed": arm.seed,
        "accuracy": facts["accuracy"] if facts else None,
        "best": facts["best"] if facts else None,
        "epochs_seen": trained.seen if facts else None,
        "seconds": store.seconds(trained.final) if facts else None,
        "status": _status(trained.final, facts, store, lines),
        "step": trained.final,
    }


def _status(step: str, facts: dict[str, Any] | None, store: Store, lines: Yardstick | None) -> str:
    if facts is None:
        return "pending"
    if facts["diverged_at"] is not None:
        return "diverged"
    if lines is not None and bool(lines.dead(np.array([facts["accuracy"]]))[0]):
        return "dead"
    return "linked" if store.linked(step) else "ok"
