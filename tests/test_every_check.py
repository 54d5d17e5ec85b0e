"""Every check on every kind of method: what its control says is measured again here, from masks and weights stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from ticketlab import pruning, select
from ticketlab.checks import CHECKS, DEFAULT, resolve
from ticketlab.data import corruption
from ticketlab.data.types import Split
from ticketlab.experiment import context, execute
from ticketlab.experiment.plan import DENSE, ORIGINAL, Arm, Plan, Trained, plan
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.run import InProcess
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.mask import Mask
from ticketlab.program import CLEAN

SPARSITY = 0.6
METHODS = ("snip", "magnitude", "synflow,rounds=2", "smart-ratio", "lottery", "imp,rounds=2", "imp,rewind=1,rounds=2")
DATA_FREE = ("magnitude", "synflow,rounds=2", "smart-ratio")
CHECK_NAMES = (*CHECKS, "versus:random")
TAMPER_DATA = ("corrupted", "random-labels", "random-pixels", "half-data")
NOT_APPLICABLE = {("smart-ratio", c) for c in ("rearrange", "weight-shuffle", "reinit", "invert", "versus:smart-ratio")}
PAIRS = [(m, c) for m in METHODS for c in CHECK_NAMES if (m, c) not in NOT_APPLICABLE]


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
        InProcess(self.study.context).run(self.plan.ordered(), self.store, self._tell)

    def _tell(self, step: Step, seconds: float, linked: bool) -> None:
        (self.linked if linked else self.computed).append(step.id)

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
        _compare_with_variant(ran, check, facts)


def _compare_with_variant(ran: Ran, check: str, facts: dict[str, Any]) -> None:
    clean = ran.train_before
    variant, _ = context.tampered(ran.study.context.data, check, 0)
    if check == "half-data":
        assert len(variant) == 30 and facts["images_kept"] == 0.5
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
    if check in ("reinit", "versus:smart-ratio", "versus:random"):
        # Weights that were never trained start at epoch 0: as many epochs in all.
        assert ran.arm(method, ORIGINAL).seen == ran.arm(method, check).seen
        params = [{**p, "start": 0} for p in params]
    assert params[0] == params[1]


def test_data_of_the_study_stay_as_they_were(ran: Ran) -> None:
    now = ran.study.context.data
    assert tiny.same(now.test, ran.test_before) and tiny.same(now.train, ran.train_before)


@pytest.mark.parametrize("method", DATA_FREE)
@pytest.mark.parametrize("check", TAMPER_DATA)
def test_tampered_data_cost_a_data_free_method_no_training(ran: Ran, method: str, check: str) -> None:
    original, tampered = ran.arm(method, ORIGINAL), ran.arm(method, check)
    assert original.final == tampered.final and original.start == tampered.start
    assert ran.control(method, check)["equal"]


@pytest.mark.parametrize("method", ["snip", "lottery", "imp,rounds=2"])
def test_tampered_data_move_the_mask_of_a_method_that_reads_them(ran: Ran, method: str) -> None:
    assert all(ran.control(method, c)["facts"]["mask_moved"] > 0 for c in TAMPER_DATA)


def test_lotteries_share_one_dense_training_for_each_variant(ran: Ran) -> None:
    trainings = [s for s in ran.plan.steps.values() if s.kind == "train" and "mask" not in s.inputs]
    whole = [s.params["variant"] for s in trainings if s.params["start"] == 0 and s.params["until"] == 2]
    assert sorted(whole) == sorted([CLEAN, *TAMPER_DATA])
    dense = ran.plan.arms[Arm("", DENSE, None, 0)]
    found_in = [i for s in ran.plan.steps.values() if s.method == "lottery" for i in s.inputs.values()]
    assert dense.final in found_in


def test_pairs_without_meaning_are_listed_with_a_reason(ran: Ran) -> None:
    listed = {(e["method"], e["check"]): e["why"] for e in ran.plan.not_applicable}
    assert set(listed) == NOT_APPLICABLE
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


@pytest.mark.parametrize("check", TAMPER_DATA)
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


SABOTAGE: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("corrupted", _nothing_of_both),
    ("corrupted", _no_labels),
    ("corrupted", _no_pixels),
    ("random-labels", _no_labels),
    ("random-pixels", _no_pixels),
    ("half-data", _all_of_the_data),
    ("rearrange", _no_rearranging),
    ("rearrange", _other_counts),
    ("weight-shuffle", _no_shuffling),
    ("weight-shuffle", _half_a_shuffle),
    ("reinit", _same_draw),
    ("invert", _not_inverted),
    ("versus:random", _one_more),
]


@pytest.mark.parametrize(("check", "sabotage"), SABOTAGE, ids=[f"{c}-{s.__name__}" for c, s in SABOTAGE])
def test_a_check_that_does_not_do_its_work_is_void(
    check: str, sabotage: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tiny.prepared(tmp_path / "s", checks=[check], sparsity=[0.5])
    sabotage(monkeypatch)
    results = found.run()
    (verdict,), (control,) = results["verdicts"], results["controls"]
    assert not control["passed"] and control["seeds"] == 3
    assert verdict["verdict"] == "void" and "control failed" in verdict["reason"]


@pytest.mark.parametrize("check", CHECK_NAMES)
def test_unsabotaged_controls_pass_and_are_shown(check: str, tmp_path: Path) -> None:
    results = tiny.prepared(tmp_path / "s", checks=[check], sparsity=[0.5]).run()
    (verdict,), (control,) = results["verdicts"], results["controls"]
    assert control["passed"] and control["facts"] and "control failed" not in (verdict["reason"] or "")


def test_every_check_has_a_sabotage() -> None:
    assert {c.split(":")[0] for c, _ in SABOTAGE} == {c.split(":")[0] for c in CHECKS}
    assert all(resolve(name).name == name for name in DEFAULT)
