"""A study that goes on until decided, as rounds of plans: which seeds each comparison has by now.

The rounds are replayed from the first look, each on the seeds that it had and on no others. So the spec and the stored
results alone say where a study stands: stopped at any moment, it goes on along the path that it would have taken.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from ticketlab import stats
from ticketlab.experiment.arms import Plan
from ticketlab.experiment.pairs import compared, comparison, dense_accuracies, settings_of
from ticketlab.experiment.plan import plan
from ticketlab.experiment.store import Store
from ticketlab.experiment.study import Compared, Study
from ticketlab.methods import Method


def current(
    study: Study,
    store: Store,
    methods: Mapping[str, Method] | None = None,
    lost: Container[str] = (),
    first: Plan | None = None,
) -> Plan:
    """The plan of the look that the study is at: the first one that is not finished, or the last one there is.

    ``lost`` are steps that cannot be computed, as one failed. ``first`` is the first look's plan, if it is known.
    """
    planned = plan(study, methods) if first is None else first
    while (after := following(study, planned, store, methods, lost)) is not None:
        planned = after
    return planned


def most(study: Study, first: Plan, methods: Mapping[str, Method] | None = None) -> Plan:
    """The plan of the study if nothing is decided before the last look; ``first`` is the first one's."""
    if not study.until_decided:
        return first
    return plan(study, methods, granted=dict.fromkeys(compared(study, first), study.seeds))


def following(
    study: Study,
    planned: Plan,
    store: Store,
    methods: Mapping[str, Method] | None = None,
    lost: Container[str] = (),
) -> Plan | None:
    """The plan of the next look; None when no comparison gets more seeds, or when this look is not finished.

    A comparison of which a step is ``lost`` gets no more seeds; the others go on.
    """
    if not study.until_decided or any(step not in store and step not in lost for step in planned.steps):
        return None
    seeds = {key: planned.seeds(*key) for key in compared(study, planned)}
    whole = planned.finished(store)
    given = grants(study, planned, store)
    more = {key: grant.seeds for key, grant in given.items() if grant.seeds is not None and key in whole}
    return plan(study, methods, granted=seeds | more) if more else None


def grants(study: Study, planned: Plan, store: Store) -> dict[Compared, stats.Grant]:
    """What each comparison gets after this look, of which every step that can be must be finished."""
    keys = compared(study, planned)
    settings, _ = settings_of(study, dense_accuracies(planned, store))
    if settings is None:
        # All dense runs diverged, and the margin is a share of what they reach: there is nothing to judge by.
        return {key: stats.Grant(None, "no dense run to take the margin from") for key in keys}
    verdicts = stats.judge([comparison(planned, store, *key, images=False) for key in keys], settings)
    granted = stats.grow(verdicts, [planned.seeds(*key) for key in keys], settings)
    return dict(zip(keys, granted, strict=True))
