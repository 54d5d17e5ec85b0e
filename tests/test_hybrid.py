"""Hybrid tickets and ratio transplants: the counts of one method, the positions of another."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from engine.engines import weights as state
from torch import nn

import ticketlab
from ticketlab import InputError, Mask, Method, budget
from ticketlab.engine.job import Job
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.train import train_jobs
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm
from ticketlab.experiment.plan import plan
from ticketlab.experiment.run import InProcess
from ticketlab.models.registry import build
from ticketlab.program import retrained
from ticketlab.seeding import isolated

GOLDEN = json.loads((Path(__file__).parent / "golden" / "smart_ratio.json").read_text())
# How our models are called in the authors' code, and the form that their decay takes.
NETWORKS = {"resnet32-su2020": ("resnet32", "resnet"), "vgg19": ("vgg19_bn", "vgg")}
ASKED: dict[str, Any] = {"data": tiny.data(), "recipe": tiny.RECIPE, "per_class": 4}
SCORED = [(torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.arange(12) % 3)]


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    with isolated(0, "init"):
        return request.param, build(request.param, 10, (3, 32, 32))


def net() -> tiny.Net:
    with isolated(3, "init"):
        return tiny.Net()


def largest(model: nn.Module, mask: Mask) -> bool:
    """Within every layer no weight that is left out is larger than one that is kept."""
    sizes = {n: p.detach().abs() for n, p in model.named_parameters() if n in mask}
    mixed = [n for n in mask if mask[n].any() and not mask[n].all()]
    return bool(mixed) and all(bool(sizes[n][mask[n]].min() >= sizes[n][~mask[n]].max()) for n in mixed)


@pytest.mark.parametrize("sparsity", [0.9, 0.95, 0.98])
def test_counts_of_the_random_ticket_positions_by_size(network: tuple[str, nn.Module], sparsity: float) -> None:
    name, model = network
    theirs, form = NETWORKS[name]
    hybrid = ticketlab.prune(model, "hybrid", sparsity, form=form)
    random = ticketlab.prune(model, f"smart-ratio,form={form}", sparsity)
    assert budget.from_mask(hybrid) == budget.from_mask(random)
    assert hybrid.kept == round((1 - sparsity) * hybrid.total)
    assert largest(model, hybrid) and not largest(model, random)
    last = list(hybrid)[-1]
    assert hybrid.counts()[last] == (round(0.3 * hybrid[last].numel()), hybrid[last].numel())
    # As the authors' code counts; their names are in the same order.
    compat = ticketlab.prune(model, "hybrid", sparsity, form=form, compat="su2020")
    golden = GOLDEN[f"{theirs}/10/{sparsity:g}"]
    assert [size for _, size in compat.counts().values()] == golden["sizes"]
    assert list(budget.from_mask(compat).values()) == golden["kept"]
    assert largest(model, compat)


def dense_run(seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights at the end of the dense training, trained here."""
    with isolated(seed, "init"):
        model = tiny.Net()
    data = tiny.data()
    return train_jobs(
        open_engine("tuned", model, data, tiny.RECIPE), [Job(state(model), None, seed)], data, tiny.RECIPE
    )[0].weights


@pytest.mark.parametrize(("spec", "at"), [("hybrid", 0.5), ("hybrid,rewind=1", 1), ("hybrid,rewind=0", 0)])
def test_a_hybrid_ticket_starts_from_the_trained_weights(spec: str, at: float) -> None:
    ticket = ticketlab.find(tiny.net, spec, 0.6, seed=4, **ASKED)
    trained = dense_run(4)
    assert set(ticket.weights) == set(trained)
    assert all(torch.equal(ticket.weights[n], w) for n, w in trained.items())
    assert ticket.at == at and int(ticket.weights["norm.num_batches_tracked"]) == 12
    model = tiny.Net()
    model.load_state_dict(trained)
    assert largest(model, ticket.mask)
    random = ticketlab.find(tiny.net, "smart-ratio", 0.6, seed=4, **ASKED)
    assert budget.from_mask(ticket.mask) == budget.from_mask(random.mask) and ticket.mask != random.mask
    assert ticket.mask == ticketlab.prune(model, "hybrid", 0.6)


@pytest.mark.parametrize("rounds", [2, 3])
def test_a_hybrid_ticket_in_rounds_ends_at_the_same_counts(rounds: int) -> None:
    ticket = ticketlab.find(tiny.net, f"hybrid,rounds={rounds}", 0.7, **ASKED)
    assert budget.from_mask(ticket.mask) == budget.smart(tiny.Net(), 0.7)
    # What earlier rounds removed is zero, and stays out.
    gone = {n: ticket.weights[n] == 0 for n in ticket.mask}
    before = 420 - round(420 * 0.3 ** ((rounds - 1) / rounds))
    assert sum(int(g.sum()) for g in gone.values()) == before
    assert not any(bool((g & ticket.mask[n]).any()) for n, g in gone.items())


# Ratio transplants.


@pytest.mark.parametrize("donor", ["snip", "erk", "synflow/rounds=5", "smart-ratio/linear_keep=0.1", "grasp"])
@pytest.mark.parametrize("taker", ["magnitude", "snip", "random"])
def test_counts_are_the_donors_and_positions_the_takers(donor: str, taker: str) -> None:
    model = net()
    giving = ticketlab.prune(model, donor.replace("/", ","), 0.7, data=SCORED)
    own = ticketlab.prune(model, taker, 0.7, data=SCORED)
    taken = ticketlab.prune(model, taker, 0.7, data=SCORED, budget=f"ratios:{donor}")
    assert budget.from_mask(taken) == budget.from_mask(giving)
    assert largest(model, taken) == (taker == "magnitude") or taker == "snip"
    # As many positions drawn at random are the same ones, whatever gave the counts.
    both_random = taker == "random" and donor.startswith(("erk", "smart-ratio"))
    assert (taken == giving) == (donor == taker or both_random)
    assert budget.from_mask(own) != budget.from_mask(taken) or donor == taker
    assert taken == ticketlab.prune(model, f"{taker},budget=ratios:{donor}", 0.7, data=SCORED)


def test_counts_of_a_mask_or_of_ones_own() -> None:
    model = net()
    snip = ticketlab.prune(model, "snip", 0.7, data=SCORED)
    counts = budget.from_mask(snip)
    wanted = ticketlab.prune(model, "magnitude", 0.7, data=SCORED, budget="ratios:snip")
    for given in (snip, counts, dict(reversed(counts.items()))):
        assert ticketlab.prune(model, "magnitude", 0.7, budget=given) == wanted
    assert ticketlab.prune(model, "hybrid", 0.7, budget=snip) == wanted
    random = ticketlab.prune(model, "random", 0.7, budget=snip)
    assert budget.from_mask(random) == counts and random != wanted
    assert list(wanted) == list(snip) == list(ticketlab.prunable(model))


def test_counts_that_were_rounded_layer_by_layer_will_do() -> None:
    """Of three layers, three weights more or less than the sparsity asks for; not four."""
    model = net()
    counts = budget.from_mask(ticketlab.prune(model, "magnitude", 0.5))
    for more, well in ((3, True), (-3, True), (4, False), (-4, False)):
        given = {**counts, "second.weight": counts["second.weight"] + more}
        if well:
            assert budget.from_mask(ticketlab.prune(model, "magnitude", 0.5, budget=given)) == given
        else:
            with pytest.raises(InputError, match=f"keeps 210 weights, got counts that keep {210 + more}"):
                ticketlab.prune(model, "magnitude", 0.5, budget=given)


FULL = {"first.weight": 18, "second.weight": 144, "last.weight": 48}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ratios:snap", r"asked for method 'snap', got .* Did you mean 'snip'"),
        ("ratios:", r"asked for .*, got"),
        ("ratio:snip", r"asked for budget 'ratio:snip', got"),
        ("ratios:snip/temperature=1", r"asked for option of snip 'temperature', got"),
        ("ratios:erk/x", r"asked for method 'erk,x', got 'x'"),
        ("ratios:magnitude/budget=ratios:erk", r"asked for the ratios of magnitude,budget=ratios:erk, got"),
        ({**FULL, "last.weight": 97}, r"asked to keep 97 weights of 'last\.weight', got a layer of 96"),
        ({**FULL, "last.weight": -1}, r"asked to keep -1 weights of 'last\.weight', got a layer of 96"),
        ({**FULL, "last.weight": 4.5}, r"asked to keep 4\.5 weights of 'last\.weight', got a layer of 96"),
        ({**FULL, "last.weight": True}, r"asked to keep True weights of 'last\.weight', got a layer of 96"),
        ({**FULL, "first.weight": 1}, r"asked for sparsity 0\.5, which keeps 210 weights, got counts that keep 193"),
        ({"first.weight": 36, "second.weight": 174}, r"counts for 2 layers, got a model where \['last\.weight'\]"),
        ({**FULL, "other.weight": 0}, r"counts for 4 layers, got a model where \['other\.weight'\]"),
        ({}, r"counts for 0 layers, got a model"),
    ],
)
def test_counts_that_cannot_be_kept(given: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ticketlab.prune(net(), "magnitude", 0.5, data=SCORED, budget=given)


def test_a_donor_that_reads_data_needs_them() -> None:
    with pytest.raises(InputError, match="reads data, got none"):
        ticketlab.prune(net(), "magnitude", 0.5, budget="ratios:snip")


def test_a_dense_classifier_has_no_other_count() -> None:
    """Two answers to how many weights the classifier keeps: neither is silently preferred."""
    for given in ("ratios:erk", FULL, ticketlab.prune(net(), "random", 0.5)):
        with pytest.raises(InputError, match="its own count"):
            ticketlab.prune(net(), "lottery", 0.5, classifier="dense", budget=given)


@pytest.mark.parametrize(
    "method",
    [
        "magnitude,budget=ratios:snap",
        "magnitude,budget=ratios:erk/budget=ratios:snip",
        "lottery,budget=ratios:erk,classifier=dense",
        "lottery,budget=ratios:smart-ratio/linear_keep=1/form=typo",
    ],
)
def test_an_impossible_donor_is_refused_before_any_training(tmp_path: Path, method: str) -> None:
    with pytest.raises(InputError, match=r"asked .*, (got|which gives)"):
        tiny.prepared(tmp_path / "s", [method])
    with pytest.raises(InputError, match=r"asked .*, (got|which gives)"):
        ticketlab.find(tiny.net, method, 0.5, **ASKED)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("donor", ["snip", "smart-ratio", "erk"])
@pytest.mark.parametrize("rounds", [1, 7, 100])
def test_synflow_in_rounds_ends_at_exactly_the_donors_counts(donor: str, rounds: int) -> None:
    model = net()
    giving = ticketlab.prune(model, donor, 0.8, data=SCORED)
    options = {"data": SCORED, "input_shape": (1, 8, 8), "rounds": rounds}
    taken = ticketlab.prune(model, "synflow", 0.8, budget=f"ratios:{donor}", **options)
    assert budget.from_mask(taken) == budget.from_mask(giving)
    # Scored anew between rounds: not the positions of a single scoring.
    assert (taken == ticketlab.prune(model, "synflow", 0.8, budget=giving, **{**options, "rounds": 1})) == (rounds == 1)


@pytest.mark.filterwarnings("ignore::ticketlab.errors.EmptyLayerWarning")
@pytest.mark.parametrize("few", [0, 1])
def test_counts_on_the_way_are_never_below_the_last_ones(few: int) -> None:
    """A layer whose count has fallen below its last one could not be given the rest back."""
    seen = []

    def score(scoring: ticketlab.Scoring) -> dict[str, torch.Tensor]:
        seen.append({n: int(m.sum()) for n, m in scoring.mask.items()})
        return {n: w.detach().abs() for n, w in scoring.weights.items()}

    counts = {"first.weight": 36, "second.weight": few, "last.weight": 6 - few}
    method = Method("own", score=score, rounds=20, reads_data=False)
    mask = ticketlab.prune(net(), method, 0.9, budget=counts)
    path = [*seen, budget.from_mask(mask)]
    assert path[-1] == counts and len(path) == 21
    for before, after in pairwise(path):
        assert all(counts[n] <= after[n] <= before[n] for n in counts)
    assert all(row["first.weight"] == 36 for row in path)
    assert few == 0 or len({row["second.weight"] for row in path}) > 15


def ran(folder: Path, methods: list[Any], checks: list[str], sparsity: float = 0.6) -> tuple[Any, Any]:
    study = tiny.prepared(folder, methods, checks=checks, sparsity=[sparsity])
    one = plan(study.study, {m.name: m for m in methods if isinstance(m, Method)}, seeds=[0])
    InProcess(study.context).run(one.ordered(), study.store, tiny.Deaf())
    return study, one


@pytest.mark.parametrize("check", ["corrupted", "half-data"])
def test_under_a_data_check_the_donor_is_found_on_the_tampered_data(tmp_path: Path, check: str) -> None:
    spec = "magnitude,budget=ratios:snip"
    study, one = ran(tmp_path / "s", [spec, "snip"], [check, "invert"])
    masks = {
        (m, c): study.store.mask(one.arms[Arm(m, c, 0.6, 0)].start.mask)
        for m in (spec, "snip")
        for c in (ORIGINAL, check, "invert")
    }
    for c in (ORIGINAL, check):
        assert budget.from_mask(masks[spec, c]) == budget.from_mask(masks["snip", c])
    assert budget.from_mask(masks["snip", ORIGINAL]) != budget.from_mask(masks["snip", check])
    # Of an inverted ticket the positions are turned round, not the counts.
    assert budget.from_mask(masks[spec, "invert"]) == budget.from_mask(masks["snip", ORIGINAL])
    # The donor's step is that of the method itself.
    prunes = [s for s in one.steps.values() if s.kind == "prune" and s.method == "snip"]
    assert len(prunes) == len({s.id for s in prunes}) == 3
    taker = one.steps[one.arms[Arm(spec, check, 0.6, 0)].start.mask]
    assert taker.inputs["ratios.mask"] == one.arms[Arm("snip", check, 0.6, 0)].start.mask


def test_a_trained_donor_shares_the_dense_training(tmp_path: Path) -> None:
    spec = "magnitude,budget=ratios:lottery"
    study, one = ran(tmp_path / "s", [spec], ["random-labels"])
    trained = [s for s in one.steps.values() if s.kind == "train" and "mask" not in s.inputs]
    assert sorted(s.params["variant"] for s in trained) == ["clean", "random-labels"]
    assert one.arms[Arm("", DENSE, None, 0)].final in {s.id for s in trained}
    arm = one.arms[Arm(spec, ORIGINAL, 0.6, 0)]
    assert (arm.start.at, arm.seen, one.steps[arm.start.weights].kind) == (0, 2, "init")
    lottery = ticketlab.find(tiny.net, "lottery", 0.6, **ASKED).mask
    mask = study.store.mask(arm.start.mask)
    assert budget.from_mask(mask) == budget.from_mask(lottery) and mask != lottery
    assert mask == ticketlab.find(tiny.net, spec, 0.6, **ASKED).mask
    model = tiny.Net()
    model.load_state_dict(study.store.tensors(arm.start.weights, "weights"))
    assert largest(model, mask)


def test_in_rounds_the_donor_is_asked_for_each_rounds_sparsity(tmp_path: Path) -> None:
    spec = "imp,budget=ratios:erk,rounds=2"
    study, one = ran(tmp_path / "s", [spec], ["rearrange"], sparsity=0.75)
    masks = [study.store.mask(s.id) for s in one.steps.values() if s.kind == "prune" and s.method.startswith("imp")]
    assert [budget.from_mask(m) for m in masks] == [budget.erk(tiny.Net(), s) for s in (0.5, 0.75)]
    assert all(bool((masks[0][n] | ~masks[1][n]).all()) for n in masks[0])


def test_a_donor_with_another_program_leaves_the_takers_alone(tmp_path: Path) -> None:
    """Counts are all that is taken: weights, rewinding and training are the taker's own."""
    study, one = ran(tmp_path / "s", ["lottery,budget=ratios:weight-rewinding", "lottery"], ["rearrange"])
    arms = [one.arms[Arm(m, ORIGINAL, 0.6, 0)] for m in study.study.methods]
    params = [one.steps[a.final].params for a in arms]
    assert params[0] == params[1] and arms[0].start.weights == arms[1].start.weights
    # Both rank the same trained weights, over all layers: the counts are the same, and so is the ticket.
    assert study.store.mask(arms[0].start.mask) == study.store.mask(arms[1].start.mask)


def test_a_method_of_ones_own_may_take_counts(tmp_path: Path) -> None:
    """Trained first, while its donor scores the initialisation."""
    own = Method(
        "own",
        tiny.score,
        budget="ratios:snip",
        reads_data=False,
        needs_trained=True,
        program=lambda sparsity, options: retrained(None, 1, "50%"),
    )
    study, one = ran(tmp_path / "s", [own], ["corrupted"])
    mask = study.store.mask(one.arms[Arm("own", ORIGINAL, 0.6, 0)].start.mask)
    assert budget.from_mask(mask) == budget.from_mask(ticketlab.find(tiny.net, "snip", 0.6, **ASKED).mask)
    model = tiny.Net()
    model.load_state_dict(dense_run())
    assert largest(model, mask)
    assert ticketlab.find(tiny.net, own, 0.6, **ASKED).mask == mask
    assert study.run(1)["complete"]
