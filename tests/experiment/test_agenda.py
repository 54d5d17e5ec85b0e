"""What is handed out next, from random graphs of steps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ticketlab.experiment.agenda import Agenda, Linked, content_key
from ticketlab.experiment.step import Result, Step
from ticketlab.experiment.store import DamagedResult, Store


def graph(draw: random.Random, size: int) -> list[Step]:
    """Steps that build on earlier ones; some of them compute the same as others."""
    steps: list[Step] = []
    for k in range(size):
        inputs = {f"i{j}.facts": s.id for j, s in enumerate(draw.sample(steps, min(len(steps), draw.randint(0, 3))))}
        steps.append(Step("data", {"k": draw.randint(0, size // 2), "own": k if draw.random() < 0.5 else 0}, inputs))
    return list({s.id: s for s in steps}.values())


def compute(step: Step, key: str, store: Store) -> None:
    store.put(step, Result({"facts": dict(step.params)}), 0.0, key)


@given(seed=some.integers(0, 10_000), size=some.integers(1, 30), workers=some.integers(1, 4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_step_once_and_inputs_first(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, workers: int
) -> None:
    draw = random.Random(seed)
    steps, store = graph(draw, size), Store(tmp_path_factory.mktemp("s"))
    agenda = Agenda(steps, store)
    out: list[tuple[Step, str]] = []
    computed: list[str] = []
    while agenda.left:
        found = agenda.take() if len(out) < workers else None
        if isinstance(found, Linked):
            store.link(found.step, found.other, found.key)
            agenda.finished(found.step.id, found.key)
        elif found:
            assert all(i in store for i in found.steps[0].inputs.values())
            # Nobody else computes the same right now.
            assert found.keys[0] not in [key for _, key in out]
            out.append((found.steps[0], found.keys[0]))
        else:
            assert out, "something is left, and nothing runs"
            step, key = out.pop(draw.randrange(len(out)))
            if draw.random() < 0.2:
                agenda.again(step.id, key)
                continue
            compute(step, key, store)
            computed.append(key)
            agenda.finished(step.id, key)
    assert all(step.id in store for step in steps)
    assert len(computed) == len(set(computed)) == len({content_key(s, store) for s in steps})


def test_the_order_of_the_plan(tmp_path: Path) -> None:
    steps, store = [Step("data", {"k": k}) for k in range(9)], Store(tmp_path)
    agenda, order = Agenda(steps, store), []
    while (found := agenda.take()) is not None:
        assert not isinstance(found, Linked)
        order += found.steps
    assert order == steps


def test_what_builds_on_a_failure_is_dropped(tmp_path: Path) -> None:
    a, b = Step("data", {"k": 0}), Step("data", {"k": 1})
    c = Step("data", {"k": 2}, {"x.facts": a.id})
    d = Step("data", {"k": 3}, {"x.facts": c.id, "y.facts": b.id})
    agenda = Agenda([a, b, c, d], Store(tmp_path))
    found = agenda.take()
    assert found is not None and not isinstance(found, Linked) and found.steps == [a]
    assert agenda.failed(a.id, found.keys[0]) == [a.id, c.id, d.id]
    assert agenda.left == 1
    # What failed before a second pass is not begun again.
    assert Agenda([a, b, c, d], Store(tmp_path), but=[a.id]).left == 1


def test_a_step_that_another_run_computes_comes_back_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("ticketlab.experiment.agenda.time.monotonic", lambda: now)
    step, store = Step("data", {"k": 0}), Store(tmp_path)
    agenda = Agenda([step], store)
    found = agenda.take()
    assert found is not None and not isinstance(found, Linked)
    agenda.postpone(step.id, found.keys[0])
    assert agenda.take() is None and agenda.left == 1
    # The other run stores it meanwhile.
    compute(step, found.keys[0], Store(tmp_path))
    now += 2
    there = agenda.take()
    assert isinstance(there, Linked) and there.other == step.id


def test_an_input_that_was_put_aside_is_told(tmp_path: Path) -> None:
    a = Step("data", {"k": 0})
    b = Step("data", {"k": 1}, {"x.facts": a.id})
    store = Store(tmp_path)
    compute(a, content_key(a, store), store)
    agenda = Agenda([a, b], store)
    store.discard(a.id)
    with pytest.raises(DamagedResult, match=a.id):
        agenda.take()
