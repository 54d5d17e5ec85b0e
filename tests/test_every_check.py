"""Every check on every kind of method: what its control says is measured again here, from masks and weights stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ticketlab import InputError, pruning, select
from ticketlab.checks import CHECKS, DEFAULT, resolve
from ticketlab.data import corruption, variants
from ticketlab.data.types import Split
from ticketlab.data.variants import FIRST_HALF, VARIANTS
from ticketlab.experiment import execute
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm, Plan, Trained
from ticketlab.experiment.context import Context
from ticketlab.experiment.plan import plan
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.run import Failure, InProcess
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.mask import Mask
from ticketlab.program import CLEAN

SPARSITY = 0.6
TWICE = "lr-rewinding,rewind=0,rounds=2"
DONATED = "magnitude,budget=ratios:snip"
# Their last training starts from trained weights.
KEEPING = ("lr-rewinding", "hybrid", "fine-tuning", TWICE)
AT_INIT = ("snip", "magnitude", "synflow,rounds=2", "smart-ratio", DONATED)
TRAINED = ("lottery", "imp,rounds=2", "imp,rewind=1,rounds=2", "weight-rewinding,rewind=1", *KEEPING)
METHODS = (*AT_INIT, *TRAINED)
DATA_FREE = ("magnitude", "synflow,rounds=2", "smart-ratio")
CHECK_NAMES = (*CHECKS, "versus:random")
TAMPER_DATA = VARIANTS
CHANGE_DATA = tuple(v for v in VARIANTS if v != FIRST_HALF)
NOT_APPLICABLE = {("smart-ratio", c) for c in ("rearrange", "weight-shuffle", "reinit", "invert", "versus:smart-ratio")}
NOT_APPLICABLE |= {(m, FIRST_HALF) for m in AT_INIT} | {(TWICE, "rearrange")}
# The weights of these train for longer in all than the random ticket's.
LONGER = ("lr-rewinding", "hybrid", "fine-tuning", TWICE)
UNLIKE = {(m, f"versus:{r}") for m in LONGER for r in ("smart-ratio", "random")}
PAIRS = [(m, c) for m in METHODS for c in CHECK_NAMES if (m, c) not in NOT_APPLICABLE | UNLIKE]


class Ran:
    """One seed of a study, run in order, with what was computed and linked."""

    def __init__(self, folder: Path) -> None:
        self.study: Prepared = tiny.prepared(folder, METHODS, checks=[*CHECKS, "versus:random"], sparsity=[SPARSITY])
        self.plan: Plan = plan(self.study.study, seeds=[0])
        self.store: Store = self.study.store
        self.computed: list[str] = []
        self.linked: list[str] = []
        self.test_before = Split(
            self.study.context.data.test.inputs.clone(), self.study.context.data.test.targets.clone()
        )
        self.train_before = Split(
            self.study.context.data.train.inputs.clone(), self.study.context.data.train.targets.clone()
        )
        InProcess(self.study.context).run(self.plan.ordered(), self.store, self)

    def finished(self, step: Step, seconds: float, linked: bool) -> None:
        (self.linked if linked else self.computed).append(step.id)

    def failed(self, failure: Failure) -> None:
        raise failure.error()

    def arm(self, method: str, check: str) -> Trained:
        return self.plan.arms[Arm(method, check, SPARSITY, 0)]

    def ticket(self, trained: Trained) -> tuple[Mask, dict[str, torch.Tensor]]:
        assert trained.start.mask is not None
        return self.store.mask(trained.start.mask), self.store.tensors(trained.start.weights, "weights")

    def control(self, method: str, check: str) -> dict[str, Any]:
        facts = self.store.facts(self.arm(method, check).control or "")
        assert facts is not None
        return facts


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("every") / "study")


def kept_share_moved(a: Mask, b: Mask) -> float:
    return 1 - sum(int((a[n] & b[n]).sum()) for n in a) / sum(int(a[n].sum()) for n in a)


def values(mask: Mask, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: weights[n][mask[n]] for n in mask}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[n], b[n]) for n in a)


def layer_counts(mask: Mask) -> list[int]:
    return [int(t.sum()) for t in mask.values()]


@pytest.mark.parametrize(("method", "check"), PAIRS)
def test_control_says_what_was_done(ran: Ran, method: str, check: str) -> None:
    original, tampered = ran.arm(method, ORIGINAL), ran.arm(method, check)
    (mask, weights), (other, start) = ran.ticket(original), ran.ticket(tampered)
    control = ran.control(method, check)
    facts = control["facts"]
    assert control["passed"], control["summary"]
    assert control["equal"] == (mask == other and equal(weights, start))
    assert facts["trained_on_clean"] and facts["same_training"]
    assert control["summary"]
    # The number kept is always the asked one.
    assert mask.kept == other.kept == round((1 - SPARSITY) * mask.total)
    if check == "rearrange":
        assert layer_counts(mask) == layer_counts(other)
        assert facts["positions_moved"] == pytest.approx(kept_share_moved(mask, other)) and facts["positions_moved"] > 0
        assert equal(weights, start)
    elif check == "weight-shuffle":
        assert mask == other
        old, new = values(mask, weights), values(other, start)
        changed = sum(int((old[n] != new[n]).sum()) for n in old) / mask.kept
        assert facts["values_changed"] == pytest.approx(changed) and changed > 0.5
        for name in old:
            assert torch.equal(old[name].sort().values, new[name].sort().values)
            assert torch.equal(weights[name][~mask[name]], start[name][~mask[name]])
        assert all(torch.equal(weights[n], start[n]) for n in weights if n not in mask)
    elif check == "reinit":
        assert mask == other
        old, new = values(mask, weights), values(other, start)
        changed = sum(int((old[n] != new[n]).sum()) for n in old) / mask.kept
        assert facts["values_changed"] == pytest.approx(changed) and changed > 0.99
    elif check == "invert" or check.startswith("versus"):
        assert facts["positions_moved"] == pytest.approx(kept_share_moved(mask, other))
        assert facts["kept_equal"]
        assert mask != other
    else:
        assert check in TAMPER_DATA
        assert facts["mask_moved"] == pytest.approx(kept_share_moved(mask, other))
        assert facts["mask_equal"] == (mask == other)
        assert facts.get("start_weights_trained_on_it", False) == (method in KEEPING)
        assert facts["same_start_weights"] == equal(weights, start) == (method not in KEEPING)
        assert ("found_on_other_data" in facts) == (method not in DATA_FREE)
        _compare_with_variant(ran, check, facts)


@pytest.mark.parametrize("check", TAMPER_DATA)
@pytest.mark.parametrize("method", KEEPING)
def test_trained_start_weights_are_those_of_the_tampered_data(ran: Ran, method: str, check: str) -> None:
    """The whole way to the ticket sees tampered data, round after round; only its last training sees clean data."""
    step, variants_on_the_way = ran.plan.steps[ran.arm(method, check).start.weights], []
    while step.kind == "train":
        variants_on_the_way.append(step.params["variant"])
        step = ran.plan.steps[step.inputs["weights"]]
    assert step.kind == "init" and variants_on_the_way == [check] * (2 if method == TWICE else 1)


def _compare_with_variant(ran: Ran, check: str, facts: dict[str, Any]) -> None:
    clean = ran.train_before
    variant, _ = variants.tampered(ran.study.context.data, check, 0, tiny.RECIPE.batch_size)
    if check in ("half-data", FIRST_HALF):
        assert len(variant) == facts["count_after"] == 30 and facts["images_kept"] == 0.5
        assert variant.ordered == facts.get("order_fixed", False) == (check == FIRST_HALF)
        assert tiny.same(variant, clean.take(torch.arange(30))) == (check == FIRST_HALF)
        return
    labels = float((variant.targets != clean.targets).double().mean())
    pixels = float((variant.inputs != clean.inputs).double().mean())
    assert facts["labels_changed"] == pytest.approx(labels) and facts["pixels_moved"] == pytest.approx(pixels)
    assert (labels > 0.4) == (check in ("corrupted", "random-labels"))
    assert (pixels > 0.4) == (check in ("corrupted", "random-pixels"))
    assert torch.equal(variant.inputs.flatten(1).sort(1).values, clean.inputs.flatten(1).sort(1).values)


@pytest.mark.parametrize(("method", "check"), PAIRS)
def test_final_training_is_the_same_and_clean(ran: Ran, method: str, check: str) -> None:
    one, two = (ran.plan.steps[ran.arm(method, c).final] for c in (ORIGINAL, check))
    assert one.kind == two.kind == "train"
    assert one.params["variant"] == two.params["variant"] == CLEAN
    assert "data.facts" not in one.inputs and "data.facts" not in two.inputs
    params = [dict(step.params) for step in (one, two)]
    rivals = check.startswith("versus")
    if rivals or (check == "reinit" and method not in KEEPING):
        # Weights that were never trained start at epoch 0: as many epochs in all.
        assert ran.arm(method, ORIGINAL).seen == ran.arm(method, check).seen
        params = [{**p, "start": 0} for p in params]
    assert params[0] == params[1]


@pytest.mark.parametrize(("method", "check"), sorted(UNLIKE))
def test_a_rival_that_trains_otherwise_is_no_broken_check(ran: Ran, method: str, check: str) -> None:
    """A default check must not be void because of how the method is made: it is refused with a reason, or judged."""
    if (method, check) in {(e["method"], e["check"]) for e in ran.plan.not_applicable}:
        return
    control = ran.control(method, check)
    assert control["passed"], (control["summary"], control["facts"])


def test_data_of_the_study_stay_as_they_were(ran: Ran) -> None:
    now = ran.study.context.data
    assert tiny.same(now.test, ran.test_before) and tiny.same(now.train, ran.train_before)


@pytest.mark.parametrize("method", DATA_FREE)
@pytest.mark.parametrize("check", CHANGE_DATA)
def test_tampered_data_cost_a_data_free_method_no_training(ran: Ran, method: str, check: str) -> None:
    original, tampered = ran.arm(method, ORIGINAL), ran.arm(method, check)
    assert original.final == tampered.final and original.start == tampered.start
    assert ran.control(method, check)["equal"]


@pytest.mark.parametrize("method", [m for m in METHODS if m not in DATA_FREE])
def test_tampered_data_move_the_mask_of_a_method_that_reads_them(ran: Ran, method: str) -> None:
    """Also of one that only takes its counts from a method that reads them."""
    checks = [c for c in TAMPER_DATA if (method, c) not in NOT_APPLICABLE]
    assert len(checks) >= 4 and all(ran.control(method, c)["facts"]["mask_moved"] > 0 for c in checks)


def test_lotteries_share_one_dense_training_for_each_variant(ran: Ran) -> None:
    trainings = [s for s in ran.plan.steps.values() if s.kind == "train" and "mask" not in s.inputs]
    whole = [s.params["variant"] for s in trainings if s.params["start"] == 0 and s.params["until"] == 2]
    assert sorted(whole) == sorted([CLEAN, *TAMPER_DATA])
    dense = ran.plan.arms[Arm("", DENSE, None, 0)]
    found_in = [i for s in ran.plan.steps.values() if s.method == "lottery" for i in s.inputs.values()]
    assert dense.final in found_in


def test_pairs_without_meaning_are_listed_with_a_reason(ran: Ran) -> None:
    listed = {(e["method"], e["check"]): e["why"] for e in ran.plan.not_applicable}
    assert set(listed) - UNLIKE == NOT_APPLICABLE
    assert all(len(why) > 15 for why in listed.values())
    arms = {(a.method, a.check) for a in ran.plan.arms}
    assert not arms & set(listed)


def test_no_method_is_compared_with_itself(tmp_path: Path) -> None:
    study = tiny.prepared(tmp_path / "s", ["snip", "magnitude"], checks=["versus:snip"])
    listed = {e["method"]: e["why"] for e in study.plan.not_applicable}
    assert list(listed) == ["snip"] and "itself" in listed["snip"]


def test_the_same_ticket_twice_is_no_difference(tmp_path: Path) -> None:
    """A rival that finds the same masks: drop 0, decided, and nothing trained for it."""
    progress = tiny.Counter()
    results = tiny.prepared(tmp_path / "s", ["snip"], checks=["versus:snip,accumulate=score"]).run(1, progress)
    (verdict,) = results["verdicts"]
    assert (verdict["verdict"], verdict["drop"]) == ("does not use", 0.0)
    # Per seed: the dense net and the ticket.
    assert progress.computed.count("train") == 6 and progress.linked.count("train") == 3


@pytest.mark.parametrize("check", CHANGE_DATA)
def test_a_data_free_method_does_not_use_data(tmp_path: Path, check: str) -> None:
    progress = tiny.Counter()
    results = tiny.prepared(tmp_path / "s", ["magnitude"], checks=[check]).run(1, progress)
    (verdict,) = results["verdicts"]
    assert (verdict["verdict"], verdict["drop"]) == ("does not use", 0.0)
    assert progress.computed.count("train") == 6 and not progress.linked


# Sabotage: the tampering is replaced by nothing (shuffles that change nothing have been published). The
# control must see it, and the row must be void instead of "does not use".


def _no_labels(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(corruption, "_drawn", lambda targets, classes, generator: targets)


def _no_pixels(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(corruption, "_permuted", lambda inputs, generator: inputs)


def _nothing_of_both(patch: pytest.MonkeyPatch) -> None:
    _no_labels(patch)
    _no_pixels(patch)


def _all_of_the_data(patch: pytest.MonkeyPatch) -> None:
    facts = {"count_before": 60, "count_after": 60, "images_kept": 1.0}
    patch.setattr(corruption, "half", lambda split, generator: (split, facts))


def _all_of_the_batches(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(corruption, "whole_batches_of_half", lambda examples, batch_size: examples)


def _shuffled_all_the_same(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(corruption, "Split", lambda inputs, targets, ordered=False: Split(inputs, targets))


def _clean_data_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """The tampered data are made, and not read."""
    split = Context.split
    patch.setattr(Context, "split", lambda self, *which: (self.data.train, split(self, *which)[1]))


def _trained_on_clean_data_all_the_same(patch: pytest.MonkeyPatch) -> None:
    """As before, but behind the back of whoever writes down what was read: only the start weights tell."""
    job = execute._job
    patch.setattr(execute, "_job", lambda step, split, store: job(step, None, store))


def _no_rearranging(patch: pytest.MonkeyPatch) -> None:
    transform = execute._transform

    def broken(step: Step, context: Any, store: Store) -> Any:
        result = transform(step, context, store)
        result.mask = store.mask(step.inputs["mask"])
        return result

    patch.setattr(execute, "_transform", broken)


def _no_shuffling(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(execute, "shuffled", lambda weights, mask, seed: dict(weights))


def _half_a_shuffle(patch: pytest.MonkeyPatch) -> None:
    """Values redrawn instead of permuted: changed, but not the same values."""
    patch.setattr(execute, "shuffled", lambda weights, mask, seed: {n: w.flip(0) * 1.5 for n, w in weights.items()})


def _same_draw(patch: pytest.MonkeyPatch) -> None:
    isolated = execute.seeding.isolated
    patch.setattr(execute.seeding, "isolated", lambda seed, *purpose: isolated(0, "always"))


def _not_inverted(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(select.SELECTIONS, "inverted", select.top_k)


def _one_more(patch: pytest.MonkeyPatch) -> None:
    budget = pruning._budget

    def broken(method: Any, *arguments: Any) -> Any:
        kept = budget(method, *arguments)
        if method.name == "random":
            name = max(kept, key=lambda n: kept[n])
            kept[name] += 1
        return kept

    patch.setattr(pruning, "_budget", broken)


def _other_counts(patch: pytest.MonkeyPatch) -> None:
    """Rearranged over all layers together: moved, but with other counts per layer."""
    patch.setattr(execute, "from_mask", lambda mask: mask.kept)


SABOTAGE: list[tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("snip", "corrupted", _nothing_of_both),
    ("snip", "corrupted", _no_labels),
    ("snip", "corrupted", _no_pixels),
    ("snip", "corrupted", _clean_data_all_the_same),
    (DONATED, "corrupted", _clean_data_all_the_same),
    ("lottery", "corrupted", _clean_data_all_the_same),
    ("lr-rewinding", "corrupted", _clean_data_all_the_same),
    ("lr-rewinding", "corrupted", _trained_on_clean_data_all_the_same),
    ("hybrid", "half-data", _trained_on_clean_data_all_the_same),
    ("snip", "random-labels", _no_labels),
    ("snip", "random-pixels", _no_pixels),
    ("snip", "half-data", _all_of_the_data),
    ("lottery", FIRST_HALF, _all_of_the_batches),
    ("lottery", FIRST_HALF, _shuffled_all_the_same),
    ("lottery", FIRST_HALF, _clean_data_all_the_same),
    ("snip", "rearrange", _no_rearranging),
    ("snip", "rearrange", _other_counts),
    ("snip", "weight-shuffle", _no_shuffling),
    ("snip", "weight-shuffle", _half_a_shuffle),
    ("lr-rewinding", "weight-shuffle", _no_shuffling),
    ("snip", "reinit", _same_draw),
    ("snip", "invert", _not_inverted),
    ("snip", "versus:random", _one_more),
]


@pytest.mark.parametrize(
    ("method", "check", "sabotage"), SABOTAGE, ids=[f"{m}-{c}-{s.__name__}" for m, c, s in SABOTAGE]
)
def test_a_check_that_does_not_do_its_work_is_void(
    method: str,
    check: str,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = tiny.prepared(tmp_path / "s", [method], checks=[check], sparsity=[0.5])
    sabotage(monkeypatch)
    results = found.run()
    (verdict,), (control,) = results["verdicts"], results["controls"]
    assert not control["passed"] and control["seeds"] == 3
    assert verdict["verdict"] == "void" and "control failed" in verdict["reason"]


def test_the_first_half_of_data_stored_class_by_class_is_no_half(tmp_path: Path) -> None:
    """It lacks classes: what a ticket loses on it says nothing about half of the data. Refused before any training."""
    data = tiny.data()
    sorted_ = replace(data, train=data.train.take(data.train.targets.argsort(stable=True)))
    with pytest.raises(InputError, match=r"got data stored class by class: 2 of 3 classes are in it"):
        tiny.prepared(tmp_path / "s", ["lottery"], checks=[FIRST_HALF], data=sorted_)
    with pytest.raises(InputError, match=r"got 60 examples: not two batches"):
        tiny.prepared(tmp_path / "t", ["lottery"], checks=[FIRST_HALF], recipe=replace(tiny.RECIPE, batch_size=31))


def test_what_a_donor_reads_counts(tmp_path: Path) -> None:
    """Random positions by the counts of a lottery ticket: data and start values decide them through the donor."""
    asked = ["random,budget=ratios:lottery"]
    found = tiny.prepared(tmp_path / "s", asked, checks=[FIRST_HALF, "reinit", "rearrange"])
    assert {e["check"] for e in found.plan.not_applicable} == {"rearrange"}
    results = found.run()
    assert all(control["passed"] for control in results["controls"]) and results["methods"][0]["reads_data"]


@pytest.mark.parametrize("check", CHECK_NAMES)
def test_unsabotaged_controls_pass_and_are_shown(check: str, tmp_path: Path) -> None:
    method = "lottery" if check == FIRST_HALF else "snip"
    results = tiny.prepared(tmp_path / "s", [method], checks=[check], sparsity=[0.5]).run()
    (verdict,), (control,) = results["verdicts"], results["controls"]
    assert control["passed"] and control["facts"] and "control failed" not in (verdict["reason"] or "")


def test_every_check_has_a_sabotage() -> None:
    assert {c.split(":")[0] for _, c, _ in SABOTAGE} == {c.split(":")[0] for c in CHECKS}
    assert all(resolve(name).name == name for name in DEFAULT)
