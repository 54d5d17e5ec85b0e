"""What goes around the numbers: warnings above, the foot below."""

from __future__ import annotations

from ticketlab.report.reading import Results, Row, number, part, rows, sparsities
from ticketlab.report.words import duration, percent, points, short

POSITIVE_CONTROL = "invert"


def warnings(results: Results) -> list[str]:
    """What a reader must know before believing a row."""
    found = []
    if results.get("complete") is False:
        done, total = results.get("steps_done"), results.get("steps_total")
        steps = f": {done} of {total} steps done" if done is not None and total is not None else ""
        found.append(f"The study is not complete{steps}. Rows may be missing, and verdicts may still come.")
    found += _failed(results)
    if results.get("verdicts") and not results.get("dense"):
        found.append("No dense run: the best ticket of the study stands in for the dense accuracy.")
    if part(results, "model").get("drawn") is False:
        found.append(
            "Every seed starts from the same weights: the model's factory ignores the seed, or the model came with its "
            "weights. Intervals do not cover other initialisations."
        )
    for row in rows(results, "controls"):
        if row.get("passed") is False:
            found.append(f"Control failed for {where(row)}: {row.get('summary') or 'no details'}. Its row is void.")
    for row in rows(results, "diagnosis"):
        found += _diagnosis(row)
    return found + _uncontrolled(results) + _narrow(results)


def _failed(results: Results) -> list[str]:
    """Steps that failed, one line for each error: often a method fails in the same way for every seed."""
    labels: dict[str, list[str]] = {}
    for row in rows(results, "failed"):
        labels.setdefault(str(row.get("error", "")).strip(), []).append(str(row.get("label", "")))
    return [
        f"{len(those)} {'step' if len(those) == 1 else 'steps'} failed ({those[0]}"
        f"{', ...' if len(those) > 1 else ''}): {error}"
        for error, those in labels.items()
    ]


def _uncontrolled(results: Results) -> list[str]:
    """Rows in which the positive control shows no drop, although it should."""
    named: dict[str, list[str]] = {}
    for row in rows(results, "verdicts"):
        if row.get("check") == POSITIVE_CONTROL and row.get("verdict") not in ("uses", None):
            named.setdefault(str(row["verdict"]), []).append(where({**row, "check": None}))
    return [
        f"The positive control ({POSITIVE_CONTROL}) is {verdict!r} for {', '.join(those)}. Keeping the worst-scored "
        "weights should cost accuracy: read the other rows there with care."
        for verdict, those in named.items()
    ]


def _narrow(results: Results) -> list[str]:
    """Rows inside the margin on this test set, but not surely on another one."""
    named = [
        where(row)
        for row in rows(results, "verdicts")
        if row.get("verdict") == "does not use" and row.get("population_holds") is False
    ]
    text = "Inside the margin on this test set, but with other test data the drop could exceed it"
    return [f"{text}: {', '.join(named)}."] if named else []


def where(row: Row) -> str:
    """`snip · rearrange at 90%`."""
    names = " · ".join(str(row[key]) for key in ("method", "label", "check") if row.get(key))
    sparsity = percent(row.get("sparsity"))
    return f"{names} at {sparsity}" if sparsity else names


def _diagnosis(row: Row) -> list[str]:
    empty = [str(name) for name in row.get("empty_layers") or []]
    if not empty:
        return []
    listed = ", ".join(empty[:4]) + (f" and {len(empty) - 4} more" if len(empty) > 4 else "")
    return [f"{where(row)}: no weight left in {listed}. Nothing passes through an empty layer."]


def margin(results: Results) -> str:
    """The margin of the study, with the rule it came from."""
    statistics = part(results, "statistics")
    value, rule = points(statistics.get("margin")), statistics.get("margin_rule")
    if not value:
        return "No margin was set, so no row can be found to be inside it."
    return f"Margin: {value} points" + (f", {rule}." if rule else ".")


def foot(results: Results) -> list[str]:
    """Family, looks, margin, what the intervals cover, and how often such a report is wrong."""
    statistics, data = part(results, "statistics"), part(results, "data")
    lines = []
    if statistics:
        lines += [_family(results), _looks(results), margin(results)]
    images = len(data.get("in_shape") or []) == 3
    size = f" of {data['test']:,} {'images' if images else 'samples'}" if number(data.get("test")) else ""
    lines.append(
        "Intervals cover variation between training runs (initialisation, data order, mask draw) of this recipe "
        f"on this test set{size}."
    )
    if statistics:
        lines.append(_chance(results))
    return [line for line in lines if line]


def _family(results: Results) -> str:
    statistics = part(results, "statistics")
    size, rule = statistics.get("family_size"), str(statistics.get("multiplicity") or "none").lower()
    if size is None:
        return ""
    scope = "one family for each method" if statistics.get("family") == "method" else "one family"
    told = {
        "holm": f"Holm for each kind of claim, {scope}",
        "bh": f"Benjamini-Hochberg for each kind of claim, {scope}",
        "none": "each row for itself",
    }.get(rule, rule)
    return f"Family: {size} comparison{'' if size == 1 else 's'}; {told}; level {percent(statistics.get('alpha'))}."


def _looks(results: Results) -> str:
    statistics = part(results, "statistics")
    planned, done = statistics.get("looks") or [], statistics.get("looks_done") or []
    if not planned:
        return ""
    noun = "look" if len(planned) == 1 else "looks"
    told = f"{len(planned)} planned {noun}, at {short(planned)} seeds; taken: {short(done) or 'none yet'}."
    if statistics.get("until_decided"):
        told += " Only comparisons that a look leaves undecided get the seeds of the next one."
    return told


def _chance(results: Results) -> str:
    statistics = part(results, "statistics")
    alpha, size = number(statistics.get("alpha")), number(statistics.get("family_size"))
    rule = str(statistics.get("multiplicity") or "none").lower()
    if alpha is None:
        return ""
    level = percent(alpha)
    if rule == "bh":
        return f"Of the verdicts of each kind, about {level} may be wrong."
    if rule == "none" and size != 1:
        return f"Without correction: expect up to about {alpha * (size or 1):.2g} false rows of each kind."
    scope = "families" if part(results, "statistics").get("family") == "method" else "reports"
    return (
        f"At most {level} of such {scope} contain a false 'uses it' or 'better without'; "
        f"at most {level} contain a false 'does not use it'."
    )


def headline(results: Results) -> list[tuple[str, str]]:
    """The facts of the study in a few short pairs."""
    data, model = part(results, "data"), part(results, "model")
    dense, statistics = part(results, "dense"), part(results, "statistics")
    facts = []
    if data:
        counts = [f"{data[key]:,} {key}" for key in ("train", "test") if number(data.get(key)) is not None]
        facts.append(("data", ", ".join([short(data.get("name")), *counts])))
    if model:
        prunable = number(model.get("prunable"))
        weights = f", {prunable:,.0f} prunable weights" if prunable is not None else ""
        facts.append(("model", short(model.get("name")) + weights))
    if sparsities(results):
        facts.append(("sparsity", ", ".join(percent(s) for s in sparsities(results))))
    if statistics.get("seeds") is not None:
        facts.append(("seeds", _seeds(results)))
    if number(dense.get("mean")) is not None:
        spread = points(dense.get("sd"))
        sd = f", sd {spread}" if spread else ""
        facts.append(("dense", f"{points(dense['mean'])}% (n = {short(dense.get('n'))}{sd})"))
    if number(data.get("chance")) is not None:
        facts.append(("chance", f"{points(data['chance'])}%"))
    return facts


def _seeds(results: Results) -> str:
    """How many; with their range where every comparison has its own."""
    given = [found for row in rows(results, "granted") if (found := number(row.get("seeds"))) is not None]
    if not given:
        return short(part(results, "statistics").get("seeds"))
    span = f"{max(given):g}" if min(given) == max(given) else f"{min(given):g} to {max(given):g}"
    return f"{span}, added until decided"


def answer(results: Results) -> str:
    """The answer in words; a study without one says so."""
    return str(results.get("answer") or "No answer yet: no comparison has been decided.").strip()


def total_time(results: Results) -> str:
    """Training time of all runs together, or nothing when none was measured."""
    seconds = [number(run.get("seconds")) or 0.0 for run in rows(results, "runs")]
    return duration(sum(seconds)) if sum(seconds) > 0 else ""
