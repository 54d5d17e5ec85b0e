"""Defects that pruning code has had, one test each: none of them is here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn import functional

import ticketlab
from ticketlab import budget, select
from ticketlab.cli import parser
from ticketlab.data import corruption
from ticketlab.data.batches import epoch_batches, prepare, scoring_batches
from ticketlab.data.types import Augment, Data
from ticketlab.data.variants import tampered
from ticketlab.engine.job import Job
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.train import train_jobs
from ticketlab.errors import InputError
from ticketlab.experiment.arms import ORIGINAL, Arm
from ticketlab.experiment.plan import plan
from ticketlab.experiment.run import InProcess
from ticketlab.mask import Mask
from ticketlab.methods import METHODS, Method
from ticketlab.seeding import generator
from ticketlab.spec import parse

# Extreme scores leave layers empty on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::ticketlab.errors.EmptyLayerWarning")

DATA = tiny.data()
BATCH = [(prepare(DATA, DATA.train.inputs), DATA.train.targets)]
# Two batches that differ: the second half has other labels.
BATCHES = [(x, y.roll(i)) for i, (x, y) in enumerate(zip(BATCH[0][0].split(30), BATCH[0][1].split(30), strict=True))]


def net(seed: int = 0) -> tiny.Net:
    torch.manual_seed(seed)
    return tiny.Net()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {n: v.clone() for n, v in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return sorted(a) == sorted(b) and all(torch.equal(a[n], b[n]) for n in a)


def scored(values: dict[str, Tensor], sparsity: float, model: nn.Module | None = None) -> Mask:
    """The mask from given scores."""
    return ticketlab.prune(model or net(), lambda scoring: values, sparsity)


def constant(value: float) -> dict[str, Tensor]:
    return {n: torch.full(p.shape, value) for n, p in ticketlab.prunable(net()).items()}


def ran(folder: Path, method: str, checks: list[str], **changes: Any) -> tuple[Any, Any, Any]:
    """One seed of a study: its plan and store."""
    study = tiny.prepared(folder, [method], checks=checks, **changes)
    one = plan(study.study, seeds=[0])
    InProcess(study.context).run(one.ordered(), study.store, tiny.Deaf())
    return study, one, study.store


# Masks: exactly as many as asked for.


def test_ties_are_not_all_removed() -> None:
    """A threshold compared with <= removes everything that ties with it: 20 kept instead of 50."""
    assert scored(constant(0.3), 0.5).kept == 210


def test_ties_are_not_all_kept() -> None:
    """A threshold compared with >= keeps everything that ties with it."""
    assert scored(constant(0.3), 0.9).kept == 42


def test_a_threshold_of_zero_still_removes() -> None:
    """Where most scores are zero, a strict comparison with a threshold of zero keeps or removes nothing."""
    values = constant(0.0)
    values["first.weight"][0] = 1.0
    for sparsity in (0.5, 0.99):
        assert scored(values, sparsity).kept == round((1 - sparsity) * 420)


def test_no_off_by_one_at_the_threshold() -> None:
    """Index k for k removed, or a strict comparison with the k-th score, is one weight off."""
    for sparsity in (0.0, 0.1, 0.5, 0.73, 0.999):
        for method in ("magnitude", "random", "erk"):
            try:
                assert ticketlab.prune(net(), method, sparsity).kept == round((1 - sparsity) * 420)
            except InputError as error:
                assert method == "erk" and "keep" in str(error)


def test_counts_are_not_floored_floats() -> None:
    """int(750 * (1 - 0.8)) is 149."""
    assert budget.total(750, 0.8) == 150
    assert sum(budget.uniform({"a": (75, 5), "b": (25, 15)}, 0.8).values()) == 150


def test_counts_are_not_single_precision() -> None:
    """Above 2**24 single precision cannot count: sums and thresholds by it lose weights."""
    shapes = {"a": (2**12, 2**13), "b": (3, 1)}
    kept = budget.uniform(shapes, 0.5)
    assert sum(kept.values()) == round(0.5 * (2**25 + 3)) and kept["b"] in (1, 2)


def test_scores_are_not_compared_in_single_precision() -> None:
    """Scores of deep nets differ only in double precision, or underflow outside it."""
    values = {n: v.double() * 1e-60 for n, v in constant(1.0).items()}
    values["last.weight"][0, 0] += 1e-70
    mask = scored(values, 1 - 1.4 / 420)
    assert mask.kept == 1 and bool(mask["last.weight"][0, 0])


def test_random_masks_are_no_bernoulli_draw() -> None:
    """rand < density keeps another number each time."""
    counts = {tuple(ticketlab.prune(net(), "random", 0.7, seed=s).counts().values()) for s in range(20)}
    assert len(counts) == 1 and sum(kept for kept, _ in counts.pop()) == 126


def test_even_density_runs_and_is_density() -> None:
    """A branch for even layers that crashed, and kept the sparsity instead of the density."""
    for kept, total in ticketlab.prune(net(), "random", 0.75).counts().values():
        assert kept == total // 4


def test_percent_is_no_fraction() -> None:
    """A sparsity given in percent was used as a fraction, silently."""
    with pytest.raises(InputError, match=r"Did you mean 0\.8\?"):
        ticketlab.prune(net(), "random", 80)


def test_sparsity_is_the_fraction_removed() -> None:
    """Flags called sparsity that mean density."""
    mask = ticketlab.prune(net(), "magnitude", 0.9)
    assert mask.kept == 42 and mask.sparsity == pytest.approx(0.9)


def test_erk_hands_on_what_a_full_layer_cannot_take() -> None:
    """Clamping densities at one without giving the rest to the others keeps too few weights."""
    shapes = {"a": (16, 3, 3, 3), "b": (64, 16, 3, 3), "c": (128, 64, 3, 3), "d": (10, 128)}
    for sparsity in (0.2, 0.5, 0.8):
        kept = budget.erk(shapes, sparsity)
        total = sum(torch.Size(s).numel() for s in shapes.values())
        assert sum(kept.values()) == round((1 - sparsity) * total)
        assert all(0 < kept[n] <= torch.Size(s).numel() for n, s in shapes.items())
        assert kept["a"] == 432


def test_smart_ratio_loses_no_surplus() -> None:
    """A redistribution that stops at the first layer with room clips what overflows later: 546 kept of 600."""
    shapes = {"a": (100, 1, 1, 1), "b": (200, 1, 1, 1), "c": (400, 1, 1, 1), "d": (10, 5)}
    assert sum(budget.smart(shapes, 0.2, decay="ascending").values()) == 600
    assert sum(budget.smart(shapes, 0.2, decay="ascending", compat="su2020").values()) == 546


def test_layer_names_mean_nothing() -> None:
    """Rules keyed to layer names or an architecture string fail on other nets."""
    torch.manual_seed(0)
    odd = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    model = nn.ModuleDict({"conv1 but not": odd, "fc": nn.Identity()})
    for method in ("random", "erk", "smart-ratio", "magnitude"):
        assert ticketlab.prune(model, method, 0.5).kept == round(0.5 * 468)


def test_biases_and_norms_do_not_count() -> None:
    """Biases in the pool shift every count, and zero ones are all removed."""
    assert list(ticketlab.prune(net(), "snip", 0.5, data=BATCH)) == ["first.weight", "second.weight", "last.weight"]


def test_a_linear_layer_is_pruned_with_the_rest() -> None:
    """One-shot lottery tickets that leave the linear layer dense and still count it."""
    counts = ticketlab.prune(net(), "lottery", 0.8).counts()
    assert counts["last.weight"][0] < 96 and sum(k for k, _ in counts.values()) == 84
    pinned = ticketlab.prune(net(), "lottery", 0.7, classifier="dense")
    assert pinned.counts()["last.weight"] == (96, 96) and pinned.kept == 126


def test_magnitude_is_not_normalised_by_layer() -> None:
    """Scores divided by the layer's norm, by default, are not global magnitude."""
    model = net()
    with torch.no_grad():
        model.first.weight.mul_(100)
    assert ticketlab.prune(model, "magnitude", 0.8).counts()["first.weight"] == (36, 36)


def test_removed_weights_stay_removed_over_rounds() -> None:
    """Rounds that rank all weights again revive what an earlier round removed."""
    calls: list[int] = []

    def turning(scoring: Any) -> dict[str, Tensor]:
        calls.append(sum(int(m.sum()) for m in scoring.mask.values()))
        # What the first round removes, every later one likes best.
        sign = 1.0 if len(calls) == 1 else -1.0
        return {n: sign * torch.arange(w.numel()).view(w.shape) for n, w in scoring.weights.items()}

    first = ticketlab.prune(net(), Method("turning", turning), 0.5)
    calls.clear()
    second = ticketlab.prune(net(), Method("turning", turning, rounds=2), 0.75)
    assert calls == [420, 210] and second.kept == 105
    assert all(bool((first[n] | ~second[n]).all()) for n in first)


# Scores.


def test_grasp_keeps_what_carries_the_gradient_flow() -> None:
    """The sign: the highest -w (Hg) go, by a gradient of the gradient's norm taken numerically."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = BATCH[0][0].double(), BATCH[0][1]

    def norm() -> float:
        loss = functional.cross_entropy(model(x), y)
        grads = torch.autograd.grad(loss, [model[1].weight, model[3].weight])
        return 0.5 * float(sum((g**2).sum() for g in grads))

    mask = ticketlab.prune(model, "grasp", 0.9, data=[(x, y)], temperature=1, redraw_classifier=False)
    weight = model[3].weight
    effect = torch.zeros_like(weight)
    for i in range(3):
        for j in range(4):
            weight.data[i, j] += 1e-4
            up = norm()
            weight.data[i, j] -= 2e-4
            down = norm()
            weight.data[i, j] += 1e-4
            effect[i, j] = float(weight.data[i, j]) * (up - down) / 2e-4
    best, worst = effect.flatten().argmax(), effect.flatten().argmin()
    assert bool(mask["3.weight"].flatten()[best]) and not bool(mask["3.weight"].flatten()[worst])


def test_grasp_temperature_is_no_mere_scale() -> None:
    """At 200 the loss is all but linear in the logits: another ranking than at 1."""
    masks = [
        ticketlab.prune(net(), f"grasp,temperature={t},redraw_classifier=false", 0.8, data=BATCH) for t in (1, 200)
    ]
    assert masks[0] != masks[1]


def test_synflow_scores_in_eval_mode() -> None:
    """In train mode batch norm on a constant batch gives zeros only, and every weight ties."""
    model = net().train()
    mask = ticketlab.prune(model, "synflow", 0.9, input_shape=(1, 8, 8))
    scores = METHODS["synflow"]
    assert scores.mode == "eval" and scores.rounds == 100 and model.training
    assert not mask.empty_layers
    assert mask == ticketlab.prune(net().eval(), "synflow", 0.9, input_shape=(1, 8, 8), seed=9)


def test_synflow_puts_signs_back_and_reads_no_data() -> None:
    """Weights left in absolute value after scoring; data in the pass."""
    model = net()
    before = state(model)
    mask = ticketlab.prune(model, "synflow,rounds=3", 0.8, data=BATCH)
    assert equal(before, state(model)) and bool((model.second.weight < 0).any())
    assert mask == ticketlab.prune(model, "synflow,rounds=3", 0.8, data=[(BATCH[0][0] * 9, BATCH[0][1])])


def test_snip_adds_gradients_before_the_absolute_value() -> None:
    """Sum of absolute values and absolute value of the sum are different scores; each under its own name."""
    model = net().eval()
    signed = ticketlab.prune(model, "snip,mode=eval", 0.7, data=BATCHES)
    merged = [(torch.cat([x for x, _ in BATCHES]), torch.cat([y for _, y in BATCHES]))]
    assert signed == ticketlab.prune(model, "snip,mode=eval", 0.7, data=merged)
    assert signed != ticketlab.prune(model, "snip,mode=eval,accumulate=score", 0.7, data=BATCHES)


@pytest.mark.parametrize("method", ["snip", "grasp", "synflow,rounds=2", "magnitude", "random", "erk", "smart-ratio"])
def test_scoring_leaves_no_trace(method: str) -> None:
    """Batch norm statistics, modes, gradients and random states that scoring changes."""
    model = net()
    model.norm.eval()
    before, modes = state(model), [m.training for m in model.modules()]
    rng = torch.random.get_rng_state()
    ticketlab.prune(model, method, 0.6, data=BATCH, input_shape=(1, 8, 8))
    assert equal(before, state(model)) and modes == [m.training for m in model.modules()]
    assert torch.equal(rng, torch.random.get_rng_state()) and all(p.grad is None for p in model.parameters())


def test_every_batch_is_read_once_and_in_order() -> None:
    """next(iter(loader)) inside the loop reads the first batch again and again."""
    read = []

    class Loader:
        def __iter__(self) -> Any:
            for i, batch in enumerate(BATCHES):
                read.append(i)
                yield batch

    one = ticketlab.prune(net(), "snip", 0.6, data=Loader())  # type: ignore[arg-type]
    assert read == [0, 1] and one == ticketlab.prune(net(), "snip", 0.6, data=BATCHES)
    assert one != ticketlab.prune(net(), "snip", 0.6, data=BATCHES[:1])


def test_options_do_not_leak_into_the_next_call() -> None:
    """Mutable default arguments that one call changes for the next."""
    first = ticketlab.prune(net(), "snip", 0.6, data=BATCHES)
    ticketlab.prune(net(), "snip", 0.6, data=BATCHES, accumulate="score", mode="eval", budget="uniform")
    assert ticketlab.prune(net(), "snip", 0.6, data=BATCHES) == first


def test_the_seed_covers_ties_and_draws() -> None:
    """A seed that is set after the model is built and the mask is drawn fixes neither."""
    torch.manual_seed(1)
    one = ticketlab.prune(net(), "random", 0.5, seed=3)
    torch.manual_seed(2)
    assert one == ticketlab.prune(net(), "random", 0.5, seed=3) != ticketlab.prune(net(), "random", 0.5, seed=4)
    ties = [select.top_k({"a": torch.ones(50)}, 25, {"a": torch.ones(50).bool()}, s)["a"] for s in (1, 1, 2)]
    assert torch.equal(ties[0], ties[1]) and not torch.equal(ties[0], ties[2])


def test_scores_belong_to_the_weights_that_are_trained(tmp_path: Path) -> None:
    """A second initialisation for scoring: the mask belongs to weights that nobody trains."""
    _, one, store = ran(tmp_path / "s", "snip", ["rearrange"])
    start = one.arms[Arm("snip", ORIGINAL, 0.8, 0)].start
    model = net(9)
    model.load_state_dict(store.tensors(start.weights, "weights"))
    batches = scoring_batches(DATA.train, DATA, per_class=4, parts=1, generator=generator(0, "scoring batch"))
    from ticketlab.experiment.plan import mask_seed

    assert ticketlab.prune(model, "snip", 0.8, data=batches, seed=mask_seed(0)) == store.mask(start.mask)


# Layers.


def test_nothing_of_a_layer_is_lost() -> None:
    """Layers replaced by masked ones lost groups, dilation, padding mode and the weights themselves."""
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=4, dilation=2, padding=2, padding_mode="reflect"), nn.Flatten(), nn.Linear(512, 3)
    )
    before, x = state(model), torch.randn(2, 4, 8, 8)
    shape = repr(model)
    mask = ticketlab.prune(model, "random", 0.5)
    assert mask["0.weight"].shape == (8, 1, 3, 3) and equal(before, state(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ticketlab.enforce(model, mask, optimizer):
        wanted = functional.conv2d(
            functional.pad(x, (2, 2, 2, 2), mode="reflect"), before["0.weight"] * mask["0.weight"], before["0.bias"],
            groups=4, dilation=2,
        )  # fmt: skip
        torch.testing.assert_close(model[0](x), wanted)
    assert repr(model) == shape and list(model.state_dict()) == list(before)


# Training.


def trained(model: nn.Module, mask: Mask | None, recipe: Recipe = tiny.RECIPE, **more: Any) -> Any:
    data = more.pop("data", DATA)
    job = Job(state(model), mask, 0, **more)
    return train_jobs(open_engine("tuned", model, data, recipe), [job], data, recipe)[0]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_removed_weights_do_not_drift(weight_decay: float) -> None:
    """Momentum and weight decay move removed weights, or the last step leaves them non-zero in the saved ticket."""
    mask = ticketlab.prune(net(), "random", 0.7)
    result = trained(net(), mask, replace(tiny.RECIPE, weight_decay=weight_decay))
    assert not any(result.weights[n][~m].any() or result.momentum[n][~m].any() for n, m in mask.items())


def test_the_mask_is_not_read_off_the_weights() -> None:
    """A mask derived anew from weight != 0 freezes live weights that start at zero."""
    model = net()
    nn.init.zeros_(model.last.weight)
    result = trained(model, Mask.dense(ticketlab.prunable(model)))
    assert int(result.weights["last.weight"].count_nonzero()) > 80


def test_forgetting_the_mask_is_no_dense_training(tmp_path: Path) -> None:
    """A missing option that silently trained the dense net: every ticket's training has its mask."""
    study = tiny.prepared(tmp_path / "s", ["snip", "lottery", "imp,rounds=2"], checks=["all"])
    for arm, result in study.plan.arms.items():
        assert ("mask" in study.plan.steps[result.final].inputs) == (arm.check != "dense")


def test_the_best_epoch_on_the_test_set_is_not_reported() -> None:
    """max over epochs of the test accuracy is selection on the test set."""
    for seed in range(30):
        result = trained(net(seed), None, replace(tiny.RECIPE, epochs=4, lr=0.6, schedule="constant"))
        if max(e["accuracy"] for e in result.history) > result.history[-1]["accuracy"]:
            assert result.accuracy == result.history[-1]["accuracy"]
            return
    pytest.fail("no training with a best epoch before its last one")


def test_rewinding_takes_the_schedule_the_order_and_the_buffers_along(tmp_path: Path) -> None:
    """Weights rewound to epoch k, but trained again on the rate, the order or the statistics of another epoch."""
    study, one, store = ran(tmp_path / "s", "lottery,rewind=1", ["rearrange"])
    arm = one.arms[Arm("lottery,rewind=1", ORIGINAL, 0.8, 0)]
    facts = store.facts(arm.final)
    assert [(e["epoch"], e["lr"]) for e in facts["history"]] == [(2, pytest.approx(0.01))]
    weights = store.tensors(arm.start.weights, "weights")
    assert int(weights["norm.num_batches_tracked"]) == 6
    model = net(4)
    model.load_state_dict(weights)
    by_hand = trained(model, store.mask(arm.start.mask), data=study.context.data, start=1)
    assert torch.equal(by_hand.correct, store.tensors(arm.final, "correct")["correct"])


def test_imp_starts_every_round_from_the_rewound_weights(tmp_path: Path) -> None:
    """A multi-shot script that forgot to reset the weights between rounds."""
    _, one, _ = ran(tmp_path / "s", "imp,rounds=3", ["rearrange"])
    init = next(s.id for s in one.steps.values() if s.kind == "init")
    assert {s.inputs["weights"] for s in one.steps.values() if s.kind == "train"} == {init}


def test_arms_train_for_as_many_epochs(tmp_path: Path) -> None:
    """Methods compared after different numbers of epochs."""
    methods = ["snip", "lottery,rewind=1", "imp,rewind=1,rounds=2"]
    arms = tiny.prepared(tmp_path / "s", methods, checks=["all"]).plan.arms.values()
    assert {a.seen for a in arms} == {2}


# Data and checks.


def test_a_rearranged_mask_is_written_back(tmp_path: Path) -> None:
    """A shuffle that rebinds a local name measures the unshuffled network."""
    _, one, store = ran(tmp_path / "s", "snip", ["rearrange"])
    starts = [one.arms[Arm("snip", c, 0.8, 0)].start for c in (ORIGINAL, "rearrange")]
    masks = [store.mask(s.mask) for s in starts]
    assert masks[0] != masks[1] and masks[0].counts() == masks[1].counts()
    assert starts[0].weights == starts[1].weights


def test_rearranging_mixes_all_dimensions(tmp_path: Path) -> None:
    """A shuffle within filters keeps the number of weights of each filter."""
    _, one, store = ran(tmp_path / "s", "snip", ["rearrange"], sparsity=[0.5])
    masks = [store.mask(one.arms[Arm("snip", c, 0.5, 0)].start.mask) for c in (ORIGINAL, "rearrange")]
    for dims in ((1, 2, 3), (0, 2, 3), (0, 1)):
        assert not torch.equal(masks[0]["second.weight"].sum(dims), masks[1]["second.weight"].sum(dims))


def test_shuffled_weights_keep_the_mask_and_rearranged_masks_the_weights(tmp_path: Path) -> None:
    """Moving mask and values together is neither check."""
    _, one, _ = ran(tmp_path / "s", "snip", ["rearrange", "weight-shuffle"])
    original, rearranged, shuffled = (
        one.arms[Arm("snip", c, 0.8, 0)].start for c in (ORIGINAL, "rearrange", "weight-shuffle")
    )
    assert rearranged.weights == original.weights and rearranged.mask != original.mask
    assert shuffled.mask == original.mask and shuffled.weights != original.weights


def test_corruption_never_reaches_the_last_training_also_on_resume(tmp_path: Path) -> None:
    """Resuming with a corruption flag trained the ticket itself on corrupted data."""
    asked: dict[str, Any] = {"checks": ["corrupted", "random-labels", "random-pixels", "half-data"]}
    for stop in (5, 20, None):
        study = tiny.prepared(tmp_path / "s", ["lottery"], **asked)
        try:
            study.run(1, tiny.Counter(stop))
        except KeyboardInterrupt:
            continue
    for arm, result in study.plan.arms.items():
        final = study.plan.steps[result.final]
        assert final.params["variant"] == "clean"
        if arm.check != "dense":
            model = net(3)
            model.load_state_dict(study.store.tensors(result.start.weights, "weights"))
            mask = study.store.mask(result.start.mask or "")
            job = Job(state(model), mask, arm.seed)
            (again,) = train_jobs(open_engine("tuned", model, DATA, tiny.RECIPE), [job], DATA, tiny.RECIPE)
            assert torch.equal(again.correct, study.store.tensors(result.final, "correct")["correct"])


def test_half_of_the_data_is_still_shuffled() -> None:
    """A limit on batches that also switched shuffling off tests two things at once."""
    half, _ = tampered(DATA, "half-data", 0)
    orders = [torch.cat(list(epoch_batches(len(half), 10, generator(0, "order", e)))) for e in range(2)]
    assert not torch.equal(orders[0], orders[1]) and sorted(orders[0].tolist()) == list(range(30))
    # And it is a random half, not the first one.
    assert not tiny.same(half, DATA.train.take(torch.arange(30)))
    assert not tiny.same(half, tampered(DATA, "half-data", 1)[0])


def test_corrupt_labels_are_those_that_training_sees(tmp_path: Path) -> None:
    """Labels changed after a loader had cached them change nothing."""
    study, one, store = ran(tmp_path / "s", "lottery", ["random-labels"])
    dense = {s.params["variant"]: s.id for s in one.steps.values() if s.kind == "train" and "mask" not in s.inputs}
    by_hand = trained_from(study, store, one, tampered(study.context.data, "random-labels", 0)[0])
    assert equal(by_hand, store.tensors(dense["random-labels"], "weights"))
    assert not equal(by_hand, store.tensors(dense["clean"], "weights"))


def trained_from(study: Any, store: Any, one: Any, split: Any) -> dict[str, Tensor]:
    model = net(8)
    init = next(s.id for s in one.steps.values() if s.kind == "init")
    model.load_state_dict(store.tensors(init, "weights"))
    return dict(trained(model, None, data=study.context.data, split=split).weights)


def test_every_image_has_a_permutation_of_its_own() -> None:
    """One fixed permutation for all images leaves everything learnable for a fully connected net."""
    images = torch.arange(192).remainder(256).to(torch.uint8).view(1, 3, 8, 8).repeat(20, 1, 1, 1)
    permuted, _ = corruption.random_pixels(
        replace(DATA.train, inputs=images, targets=torch.zeros(20).long()), generator(0)
    )
    assert len({tuple(row.tolist()) for row in permuted.inputs.flatten(1)}) == 20
    # Channels are mixed too.
    assert not torch.equal(permuted.inputs[0, 0].flatten().sort().values, images[0, 0].flatten().sort().values)


def test_pixels_are_permuted_once_and_before_augmentation() -> None:
    """A permutation after augmentation, or anew in each epoch, is noise instead of a fixed corrupted data set."""
    data = Data("d", DATA.train, DATA.test, 3, DATA.mean, DATA.std, Augment(pad=2))
    one, two = (tampered(data, "random-pixels", 0)[0] for _ in range(2))
    assert tiny.same(one, two) and not torch.equal(one.inputs, DATA.train.inputs)
    # Augmentation comes after: its zero borders are still borders.
    shifted = prepare(replace(data, mean=(), std=()), one.inputs.clamp(min=1), generator=generator(0), augment=True)
    border = torch.cat([shifted[:, :, 0, :].flatten(1), shifted[:, :, -1, :].flatten(1)], 1)
    assert bool((border == 0).all(1).logical_or((border == 0).sum(1) >= 8).any())


def test_corruption_varies_with_the_seed() -> None:
    """One fixed corruption seed for all replicates makes them one."""
    for variant in ("random-labels", "random-pixels", "corrupted", "half-data"):
        assert not tiny.same(tampered(DATA, variant, 0)[0], tampered(DATA, variant, 1)[0])


def test_seeds_cover_initialisation_order_and_mask(tmp_path: Path) -> None:
    """Replicates whose weights, order or mask no seed reaches cannot be repeated, or are the same run again."""
    study = tiny.prepared(tmp_path / "s", ["random"], checks=["corrupted"], sparsity=[0.5])
    study.run()
    starts = [study.plan.arms[Arm("random", ORIGINAL, 0.5, s)].start for s in range(3)]
    assert len({study.store.digests(s.weights)["weights"] for s in starts}) == 3
    assert len({study.store.digests(s.mask or "")["mask"] for s in starts}) == 3
    again = tiny.prepared(tmp_path / "t", ["random"], checks=["corrupted"], sparsity=[0.5])
    again.run()
    assert all(study.store.digests(i) == again.store.digests(i) for i in study.plan.steps)


def test_every_seed_scores_on_images_of_its_own(tmp_path: Path) -> None:
    """One scoring batch for all replicates hides how much the mask depends on it."""
    study = tiny.prepared(tmp_path / "s", ["snip"], checks=["corrupted"], model=net())
    study.run()
    starts = [study.plan.arms[Arm("snip", ORIGINAL, 0.8, s)].start for s in range(3)]
    assert len({study.store.digests(s.weights)["weights"] for s in starts}) == 1
    assert len({study.store.digests(s.mask or "")["mask"] for s in starts}) == 3


def test_the_test_set_is_never_scored_on() -> None:
    """Pruning scores from test images."""
    other = Data("o", DATA.train, DATA.test.take(torch.arange(39, -1, -1)), 3, DATA.mean, DATA.std)
    batches = [scoring_batches(d.train, d, per_class=4, parts=1, generator=generator(0)) for d in (DATA, other)]
    assert torch.equal(batches[0][0][0], batches[1][0][0])


# Input and files.


def test_a_flag_is_not_true_because_it_was_given_a_word() -> None:
    """type=bool makes "--shuffle False" true."""
    assert parse("grasp,redraw_classifier=False")[1] == {"redraw_classifier": False}
    assert parse("grasp,redraw_classifier=true")[1] == {"redraw_classifier": True}
    with pytest.raises(InputError):
        ticketlab.prune(net(), "grasp,redraw_classifier=no", 0.5, data=BATCH)
    with pytest.raises(SystemExit):
        parser().parse_args(["check", "snip", "--no-augment=False"])


def test_a_method_that_needs_data_says_so() -> None:
    """Scores of an empty loader are zeros, and the mask is random."""
    for method in ("snip", "grasp"):
        for data in (None, []):
            with pytest.raises(InputError, match="this method reads data, got none"):
                ticketlab.prune(net(), method, 0.5, data=data)


def test_scores_that_are_no_numbers_are_no_ranking() -> None:
    """NaN compares as false, and the mask is whatever is left."""
    values = constant(1.0)
    values["second.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"'second\.weight' hold 1 NaN"):
        scored(values, 0.5)


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"PK\x03\x04 a zip file", b'{"masks": []}'])
def test_a_foreign_file_is_no_mask(tmp_path: Path, content: bytes) -> None:
    """Files loaded by pickle run code, and truncated ones load as far as they go."""
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(InputError, match="asked for a mask in"):
        Mask.load(tmp_path / "m")
    ticketlab.prune(net(), "random", 0.5).save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    (tmp_path / "m").write_bytes(whole[:-5])
    with pytest.raises(InputError, match="cannot be read"):
        Mask.load(tmp_path / "m")


def test_an_interrupt_deletes_nothing(tmp_path: Path) -> None:
    """Signals that were swallowed, or that removed the run's folder."""
    with pytest.raises(KeyboardInterrupt):
        tiny.prepared(tmp_path / "s").run(1, tiny.Counter(6))
    study = tiny.prepared(tmp_path / "s")
    assert len(study.plan.steps) > sum(i in study.store for i in study.plan.steps) >= 6
