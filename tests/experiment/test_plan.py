"""The plan: identities that last, steps that are shared where they may be and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ticketlab.data.variants import VARIANTS
from ticketlab.errors import InputError
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm, Plan
from ticketlab.experiment.identity import digest
from ticketlab.experiment.plan import plan
from ticketlab.experiment.run import InProcess
from ticketlab.experiment.step import Step
from ticketlab.methods import METHODS, Method
from ticketlab.program import Edit, Prune, Rewind, Train, Transform, at_init, last_training, retrained

METHOD_LIST = ("snip", "lottery", "imp,rounds=2", "imp,rewind=1,rounds=2", "lottery,rewind=1")


def planned(folder: Path, methods: Any = METHOD_LIST, **changes: Any) -> Plan:
    return tiny.prepared(folder, methods, **changes).plan


def test_ids_do_not_depend_on_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2, {"c": 3, "d": 4}]}) == digest({"b": [2, {"d": 4, "c": 3}], "a": 1})
    assert (
        Step("init", {"a": 1, "b": 2}, {"x": "1", "y": "2"}).id
        == Step("init", {"b": 2, "a": 1}, {"y": "2", "x": "1"}).id
    )
    assert Step("init", {"a": 1}).id == Step("init", {"a": 1}, label="other", method="other").id
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": float("nan")})


def test_anything_that_matters_changes_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step("prune", {"a": 1}, {"x.mask": "1"})
    others = [
        Step("train", {"a": 1}, {"x.mask": "1"}),
        Step("prune", {"a": 2}, {"x.mask": "1"}),
        Step("prune", {"a": 1}, {"x.mask": "2"}),
        Step("prune", {"a": 1}, {"y.mask": "1"}),
        Step("prune", {"a": "1"}, {"x.mask": "1"}),
    ]
    assert step.id not in {o.id for o in others} and len({o.id for o in others}) == 5
    monkeypatch.setattr("ticketlab.experiment.step.REVISIONS", {"prune": 2})
    assert Step("prune", {"a": 1}, {"x.mask": "1"}).id != step.id


def test_ids_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Hash randomisation, dict order and addresses must not reach an identity."""
    script = (
        "import functools, pathlib, tiny\n"
        "from ticketlab.experiment.identity import digest\n"
        "p = tiny.prepared(pathlib.Path('nowhere'), ['snip', 'imp,rounds=2', tiny.score, 'tiny:score,power=2'],"
        " model=functools.partial(tiny.net, num_classes=3), checks=['all'])\n"
        "print(digest(list(p.plan.steps)))\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(tiny.__file__).parent), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1 and not (tmp_path / "nowhere").exists()


def test_dense_training_is_shared_within_a_seed_and_never_across(tmp_path: Path) -> None:
    steps = planned(tmp_path / "s", ["lottery", "imp,rounds=2"], checks=["all"]).steps.values()
    dense = [s for s in steps if s.kind == "train" and "mask" not in s.inputs]
    per = Counter((s.params["seed"], s.params["variant"]) for s in dense)
    assert set(per.values()) == {1}
    assert set(per) == {(s, v) for s in range(3) for v in ("clean", *VARIANTS)}


def test_every_input_of_a_step_has_the_same_seed(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", METHOD_LIST, checks=["all"])
    for step in found.steps.values():
        if "seed" in step.params:
            assert {found.steps[i].params.get("seed", step.params["seed"]) for i in step.inputs.values()} <= {
                step.params["seed"]
            }
    for kind in ("init", "data", "train", "prune", "transform"):
        assert {s.params["seed"] for s in found.steps.values() if s.kind == kind} == {0, 1, 2}


def test_steps_come_after_their_inputs(tmp_path: Path) -> None:
    found = planned(tmp_path / "s", METHOD_LIST, checks=["all"])
    ran: set[str] = set()
    for step in found.ordered():
        assert set(step.inputs.values()) <= ran
        ran.add(step.id)
    assert ran == set(found.steps)


def seed_of(step: Step, found: Plan) -> int:
    seed = step.params.get("seed")
    return seed if seed is not None else seed_of(found.steps[next(iter(step.inputs.values()))], found)


def test_a_small_answer_is_complete_first(tmp_path: Path) -> None:
    """Everything of the first seed, its scores first; then nothing is long but one seed's trainings after another's."""
    found = planned(tmp_path / "s", METHOD_LIST, checks=["all"])
    steps = list(found.ordered())
    seeds = [seed_of(s, found) for s in steps]
    whole = seeds.count(0)
    assert set(seeds[:whole]) == {0} and seeds.count(1) == seeds.count(2) == whole
    one_seed = plan(tiny.prepared(tmp_path / "s", METHOD_LIST, checks=["all"]).study, seeds=[0])
    assert {s.id for s in steps[:whole]} == set(one_seed.steps)
    # Errors of scores must come before any training.
    for part in (steps[:whole], steps[whole:]):
        kinds = [s.kind for s in part]
        assert kinds.index("train") > max(part.index(s) for s in part if s.method == "snip")
    trainings = [seed for s, seed in zip(steps, seeds, strict=True) if s.kind == "train"]
    assert trainings == sorted(trainings)


@pytest.mark.parametrize(
    "grown",
    [{"seeds": 4}, {"sparsity": [0.8, 0.9]}, {"checks": ["all"]}, {"methods": [*METHOD_LIST, "synflow,rounds=2"]}],
)
def test_growing_a_study_keeps_all_old_ids(tmp_path: Path, grown: dict[str, Any]) -> None:
    old = planned(tmp_path / "a", checks=["rearrange", "corrupted"])
    new = planned(tmp_path / "b", **{"checks": ["rearrange", "corrupted"], "methods": METHOD_LIST, **grown})
    assert set(old.steps) < set(new.steps)
    assert {a: t.final for a, t in old.arms.items()}.items() <= {a: t.final for a, t in new.arms.items()}.items()


def test_the_first_half_is_of_batches_of_this_size(tmp_path: Path) -> None:
    """What decides a result is in the step's identity; the other variants do not depend on the recipe."""
    for check, shared in (("half-data-su2020", False), ("half-data", True), ("corrupted", True)):
        ids = [
            {
                s.id
                for s in planned(tmp_path / "s", ["lottery"], checks=[check], recipe=r).steps.values()
                if s.kind == "data"
            }
            for r in (tiny.RECIPE, replace(tiny.RECIPE, batch_size=20))
        ]
        assert len(ids[0]) == len(ids[1]) == 3 and (ids[0] == ids[1]) == shared


def test_options_of_the_program_reshape_it_and_leave_masks_alone(tmp_path: Path) -> None:
    one = planned(tmp_path / "a", ["lottery"], checks=["rearrange"])
    two = planned(tmp_path / "b", ["lottery,rewind=1"], checks=["rearrange"])
    assert {s.params["sparsity"] for s in two.steps.values() if s.kind == "prune"} == {0.8}
    assert one.arms[Arm("", DENSE, None, 0)].final == two.arms[Arm("", DENSE, None, 0)].final
    start = two.arms[Arm("lottery,rewind=1", ORIGINAL, 0.8, 0)].start
    assert two.steps[start.weights].params["until"] == 1 and start.at == 1


def test_two_methods_of_one_name_are_not_one(tmp_path: Path) -> None:
    """A method object that borrows a registered name must not be taken for it."""
    with pytest.raises(InputError, match="'snip' of a registered one"):
        planned(tmp_path / "s", ["snip", replace(METHODS["snip"], mode="eval")])
    with pytest.raises(InputError, match="two methods of the name 'mine'"):
        planned(tmp_path / "s", [Method("mine", score=tiny.score), Method("mine", score=tiny.score, rounds=2)])
    ids = [
        {s.id for s in planned(tmp_path / "s", [m]).steps.values() if s.method == "mine"}
        for m in (Method("mine", score=METHODS["snip"].score), Method("mine", score=METHODS["magnitude"].score))
    ]
    assert not ids[0] & ids[1]


def test_rewinding_beyond_the_recipe_is_refused(tmp_path: Path) -> None:
    for method in ("lottery,rewind=2", "lottery,rewind=100%", "lr-rewinding,rewind=3"):
        with pytest.raises(InputError, match=r"asked to rewind to epoch \d, got a recipe of 2 epochs"):
            planned(tmp_path / "s", [method])
    for value in ("-1", "5x", "-5%", "nan%", "true", "%", "none"):
        with pytest.raises(InputError, match=r"lottery,rewind=.* got neither epochs \(40\) nor a share"):
            planned(tmp_path / "s", [f"lottery,rewind={value}"])
    with pytest.raises(InputError, match="give a finite number"):
        planned(tmp_path / "s", ["lottery,rewind=nan"])


def test_programs() -> None:
    assert at_init() == (Prune(), Train())
    assert retrained(Rewind(3)) == (Train(), Prune(), Rewind(3), Train())
    two = retrained(Rewind(1), 2)
    assert two == (Train(), Prune(of_path=0.5), Rewind(1), Train(), Prune(of_path=1.0), Rewind(1), Train())
    assert last_training(two) == 6 and last_training(at_init()) == 1


@pytest.mark.parametrize(
    "program", [at_init(), retrained(Rewind()), retrained(Rewind(2, weights=False), 3), retrained(None)]
)
def test_edits_never_touch_the_last_training(program: Any) -> None:
    for edit in (Edit(data="corrupted"), Edit(transform="rearrange"), Edit(invert=True)):
        edited = edit(program)
        assert edited[-1] == program[-1] == Train()
        before = [s for s in edited[:-1] if isinstance(s, (Train, Prune))]
        if edit.data:
            assert before and all(s.data == "corrupted" for s in before)
        if edit.invert:
            assert all(s.invert for s in before if isinstance(s, Prune))
        if edit.transform:
            assert edited[-2] == Transform("rearrange") and len(edited) == len(program) + 1


def test_rewound_weights_are_those_of_the_epoch(tmp_path: Path) -> None:
    """Cut at epoch 1, the dense training ends bit-equal to the one in a piece, and tickets start from the cut."""
    study = tiny.prepared(tmp_path / "s", ["lottery,rewind=1", "imp,rewind=1,rounds=2"], checks=["rearrange"])
    one_seed = plan(study.study, seeds=[0])
    InProcess(study.context).run(one_seed.ordered(), study.store, tiny.Deaf())
    whole = one_seed.arms[Arm("", DENSE, None, 0)].final
    first, rest = (
        next(
            s.id
            for s in one_seed.steps.values()
            if s.kind == "train" and "mask" not in s.inputs and (s.params["start"], s.params["until"]) == cut
        )
        for cut in ((0, 1), (1, 2))
    )
    weights = study.store.tensors(whole, "weights")
    resumed = study.store.tensors(rest, "weights")
    assert all(torch.equal(weights[n], resumed[n]) for n in weights)
    assert not all(torch.equal(weights[n], w) for n, w in study.store.tensors(first, "weights").items())
    for method in ("lottery,rewind=1", "imp,rewind=1,rounds=2"):
        trained = one_seed.arms[Arm(method, ORIGINAL, 0.8, 0)]
        assert (trained.start.weights, trained.start.at, trained.seen) == (first, 1, 2)
    rounds = [s for s in one_seed.steps.values() if s.kind == "train" and s.params["keep"] and "mask" in s.inputs]
    assert [(s.inputs["weights"], s.params["start"], "momentum" in s.inputs) for s in rounds] == [(first, 1, False)]


def test_imp_counts_and_nesting(tmp_path: Path) -> None:
    study = tiny.prepared(tmp_path / "s", ["imp,rounds=3"], checks=["rearrange"], sparsity=[0.7])
    one_seed = plan(study.study, seeds=[0])
    InProcess(study.context).run(one_seed.ordered(), study.store, tiny.Deaf())
    masks = [study.store.mask(s.id) for s in one_seed.steps.values() if s.kind == "prune"]
    total = masks[0].total
    assert [m.kept for m in masks] == [round(0.3 ** (r / 3) * total) for r in (1, 2, 3)]
    for outer, inner in pairwise(masks):
        assert all(bool((outer[n] | ~inner[n]).all()) for n in inner)
