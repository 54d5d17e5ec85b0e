"""Tickets that are trained before and after: what the last training starts from, and what it is, as defined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from engine.engines import images
from torch import Tensor
from torch.nn import functional

import ticketlab
from ticketlab.engine.feed import Feed
from ticketlab.engine.job import Job, Trained
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.recipe import Recipe
from ticketlab.engine.schedule import Schedule
from ticketlab.engine.train import train_jobs
from ticketlab.experiment.arms import DENSE, ORIGINAL, Arm
from ticketlab.experiment.plan import plan
from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.run import InProcess
from ticketlab.experiment.single import Single, single
from ticketlab.experiment.store import Store
from ticketlab.mask import Mask
from ticketlab.methods import METHODS
from ticketlab.seeding import isolated

# Six steps an epoch; shifted and flipped at random; 0.1 for two epochs, 0.01 and 0.001 for one each.
RECIPE = Recipe(epochs=4, batch_size=10, lr=0.1)
DATA = images()
SCHEDULE = Schedule(RECIPE, 60)
RATES = [0.1, 0.1, 0.01, 0.001]
SEED, SPARSITY = 2, 0.7


@dataclass(frozen=True)
class Case:
    """What a method's last training is: the epoch whose weights it starts from (None: trained ones), and its span."""

    weights: float | None
    start: float
    until: float
    seen: float
    rounds: int = 1


CASES = {
    "lottery": Case(0, 0, 4, 4),
    "lottery,rewind=1": Case(1, 1, 4, 4),
    "imp,rewind=2,rounds=2": Case(2, 2, 4, 4, rounds=2),
    "weight-rewinding": Case(1, 1, 4, 4),
    "weight-rewinding,rounds=2": Case(1, 1, 4, 4, rounds=2),
    "weight-rewinding,epochs=50%": Case(1, 1, 3, 3),
    "weight-rewinding,epochs=100%": Case(1, 1, 5, 5),
    "weight-rewinding,rewind=1.5": Case(1.5, 1.5, 4, 4),
    "lr-rewinding": Case(None, 1, 5, 8),
    "lr-rewinding,rounds=2": Case(None, 1, 5, 12, rounds=2),
    "lr-rewinding,epochs=none": Case(None, 1, 4, 7),
    "lr-rewinding,epochs=2,rewind=1.5": Case(None, 1.5, 3.5, 6),
    "lr-rewinding,epochs=3,rewind=0": Case(None, 0, 3, 7),
    "fine-tuning": Case(None, 4, 5, 5),
    "fine-tuning,rounds=2": Case(None, 5, 6, 6, rounds=2),
    "fine-tuning,epochs=1.5": Case(None, 4, 5.5, 5.5),
    "hybrid": Case(None, 1, 5, 8),
    "hybrid,rounds=2": Case(None, 1, 5, 12, rounds=2),
    "obd": Case(None, 1, 5, 8),
}
cases = pytest.mark.parametrize("spec", list(CASES))


@dataclass(frozen=True)
class Run:
    """A ticket's whole program, carried out."""

    plan: Single
    store: Store
    end: ticketlab.Ticket

    @property
    def final(self) -> Any:
        return self.plan.plan.steps[self.plan.arm.final]

    @property
    def history(self) -> list[dict[str, float]]:
        return list((self.store.facts(self.final.id) or {})["history"])

    @property
    def start(self) -> dict[str, Tensor]:
        return self.store.tensors(self.plan.arm.start.weights, "weights")

    @property
    def mask(self) -> Mask:
        return self.end.mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def runs(folder: Path) -> Any:
    """Every case, in one store: what they share is computed once."""

    @cache
    def run(spec: str) -> Run:
        made = asked(spec)
        store = Store(folder / "store")
        return Run(made, store, made.train(store)[0])

    return run


def asked(spec: str, **changes: Any) -> Single:
    given: dict[str, Any] = {"sparsity": SPARSITY, "seed": SEED, "recipe": RECIPE, "per_class": 4}
    return single(spec, model=tiny.net, data=DATA, **{**given, **changes})


def fresh() -> tiny.Net:
    with isolated(SEED, "init"):
        return tiny.Net()


def by_hand(weights: dict[str, Tensor], mask: Mask | None, start: float = 0, until: float = 4) -> Trained:
    """One training in a piece, without plan and store."""
    job = Job(weights, mask, SEED, start=start, until=until)
    return train_jobs(open_engine("tuned", fresh(), DATA, RECIPE), [job], DATA, RECIPE)[0]


@cache
def dense(until: float = 4) -> dict[str, Tensor]:
    """The weights and buffers of the net after so many epochs of its first training."""
    return by_hand(dict(fresh().state_dict()), None, 0, until).weights


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) for n in a)


def masks(run: Run) -> list[Mask]:
    """Those of the rounds, from first to last."""
    steps = [s for s in run.plan.steps if s.kind == "prune"]
    return sorted((run.store.mask(s.id) for s in steps), key=lambda m: -m.kept)


@cases
def test_what_the_last_training_starts_from(runs: Any, spec: str) -> None:
    """Bit by bit: the trained weights with their batch-norm statistics, or those of the epoch gone back to."""
    run, case = runs(spec), CASES[spec]
    if case.weights is not None:
        wanted = dense(case.weights)
    elif case.rounds == 1:
        wanted = dense()
    else:
        # The second round goes on from what the first one left, after as long a training as the last.
        length = case.until - case.start
        begin = case.start - length if spec.startswith("fine-tuning") else case.start
        wanted = by_hand(dense(), masks(run)[0], begin, begin + length).weights
    assert equal(run.start, wanted)
    trained = case.start if case.weights is not None else case.seen - (case.until - case.start)
    assert int(run.start["norm.num_batches_tracked"]) == SCHEDULE.step_of(trained)
    assert (run.plan.arm.start.at, run.plan.arm.seen) == (case.start, case.seen)
    # And so says the method.
    says = METHODS[spec.split(",")[0]].retraining
    assert says.startswith("trained weights") == (case.weights is None) and "momentum zero" in says
    assert ("epoch `rewind`" in says) == (not spec.startswith("fine-tuning"))


@cases
def test_what_the_last_training_is(runs: Any, spec: str) -> None:
    """Its span, its rates, its momentum, its data."""
    run, case = runs(spec), CASES[spec]
    params = run.final.params
    assert (params["start"], params["until"], params["variant"]) == (case.start, case.until, "clean")
    assert set(run.final.inputs) == {"weights", "mask"} and run.end.at == case.until
    assert run.final.inputs["weights"] == run.plan.arm.start.weights
    # Each entry's rate is that of its first step: the recipe's, and its last one beyond its end.
    begins = [case.start] + [e["epoch"] for e in run.history[:-1]]
    assert [e["lr"] for e in run.history] == pytest.approx([RATES[min(3, int(b))] for b in begins])
    assert run.history[-1]["epoch"] == case.until
    assert sum(e["epoch"] - b for e, b in zip(run.history, begins, strict=True)) == case.until - case.start


@cases
def test_removed_weights_end_at_exactly_zero(runs: Any, spec: str) -> None:
    run, case = runs(spec), CASES[spec]
    assert run.mask.kept == round((1 - SPARSITY) * 420)
    for name, kept in run.mask.items():
        assert not run.end.weights[name][~kept].any() and run.end.weights[name][kept].all()
    one = masks(run)
    assert len(one) == case.rounds and one[-1] == run.mask
    assert all(bool((one[0][n] | ~run.mask[n]).all()) for n in run.mask)
    assert equal(by_hand(run.start, run.mask, case.start, case.until).weights, run.end.weights)


@pytest.mark.parametrize(
    "spec", ["weight-rewinding", "lr-rewinding", "lr-rewinding,epochs=2,rewind=1.5", "fine-tuning"]
)
def test_the_last_training_step_by_step(runs: Any, spec: str) -> None:
    """SGD as PyTorch has it, with fresh momentum, on the batches and at the rates of those epochs."""
    run, case = runs(spec), CASES[spec]
    model = tiny.Net()
    model.load_state_dict(run.start)
    run.mask.apply_(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=RECIPE.weight_decay)
    feed = Feed(DATA, [DATA.train], [SEED], SCHEDULE)
    losses = []
    for step in range(round(case.start * 6), round(case.until * 6)):
        optimiser.param_groups[0]["lr"] = RATES[min(3, step // 6)]
        inputs, targets = feed.batch(step)
        loss = functional.cross_entropy(model(inputs[0]), targets[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        run.mask.apply_(model)
        losses.append(loss.item())
    for name, value in model.state_dict().items():
        assert torch.allclose(value, run.end.weights[name], rtol=1e-3, atol=1e-5), name
    whole = round(case.start * 6 + 0.5) % 6 == 0
    first = losses[: 6 if whole else 3]
    assert run.history[0]["loss"] == pytest.approx(sum(first) / len(first), rel=1e-4)


def test_replayed_epochs_read_the_data_in_the_order_of_the_first_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epoch by epoch and picture by picture, shifted and flipped as then; beyond the end in new orders."""
    read: list[tuple[int, Tensor, Tensor]] = []
    batch = Feed.batch

    def seen(self: Feed, step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = batch(self, step)
        read.append((step, inputs[0], targets[0]))
        return inputs, targets

    monkeypatch.setattr(Feed, "batch", seen)
    by_hand(dict(fresh().state_dict()), None)
    first = {step: (inputs, targets) for step, inputs, targets in read}
    assert sorted(first) == list(range(24))
    read.clear()
    made = asked("lr-rewinding")
    mask = Mask.dense(ticketlab.prunable(fresh()))
    by_hand(dense(), mask, made.arm.start.at, made.plan.steps[made.arm.final].params["until"])
    assert [step for step, _, _ in read] == list(range(6, 30))
    for step, inputs, targets in read[:18]:
        assert torch.equal(inputs, first[step][0]) and torch.equal(targets, first[step][1])
    new = torch.cat([targets for _, _, targets in read[18:]])
    assert all(not torch.equal(new, torch.cat([first[6 * e + i][1] for i in range(6)])) for e in range(4))
    assert torch.equal(new.sort().values, DATA.train.targets.sort().values)


@pytest.mark.parametrize("spec", ["lr-rewinding", "hybrid"])
def test_the_first_loss_is_that_of_the_pruned_trained_net(spec: str, folder: Path) -> None:
    """After a single step: no warm-up, no other weights, the batch of the epoch gone back to."""
    made, store = asked(f"{spec},rewind=1,epochs=0.1667"), Store(folder / "store")
    end, _ = made.train(store)
    (entry,) = (store.facts(made.arm.final) or {})["history"]
    model = tiny.Net()
    model.load_state_dict(dense())
    end.mask.apply_(model)
    inputs, targets = Feed(DATA, [DATA.train], [SEED], SCHEDULE).batch(6)
    loss = functional.cross_entropy(model.train()(inputs[0]), targets[0])
    assert entry["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert (entry["epoch"], entry["lr"]) == (pytest.approx(7 / 6), 0.1)


def test_no_training_at_all_evaluates_the_pruned_net(folder: Path) -> None:
    made, store = asked("fine-tuning,epochs=0"), Store(folder / "store")
    end, facts = made.train(store)
    model = tiny.Net()
    model.load_state_dict(dense())
    end.mask.apply_(model)
    inputs = Feed(DATA, [DATA.train], [SEED], SCHEDULE).prepared(DATA.test.inputs)
    right = (model.eval()(inputs).argmax(1) == DATA.test.targets).double().mean()
    assert facts["accuracy"] == pytest.approx(100 * float(right)) and end.at == 4
    assert all(torch.equal(end.weights[n], p) for n, p in model.named_parameters())


@pytest.mark.parametrize(
    ("share", "number"),
    [
        ("lr-rewinding,epochs=100%,rewind=25%", "lr-rewinding,epochs=4,rewind=1"),
        ("lr-rewinding", "lr-rewinding,epochs=4,rewind=1"),
        ("lr-rewinding,rounds=2", "lr-rewinding,epochs=4,rewind=1,rounds=2"),
        ("weight-rewinding", "weight-rewinding,rewind=1"),
        ("imp,rewind=50%,rounds=2", "imp,rewind=2,rounds=2"),
        ("lottery,rewind=0%", "lottery"),
        ("fine-tuning", "fine-tuning,epochs=1"),
        ("hybrid,rewind=37.5%", "hybrid,rewind=1.5"),
        # To the nearest whole step.
        ("lr-rewinding,rewind=1.08", "lr-rewinding,rewind=1"),
    ],
)
def test_a_share_is_the_number_it_means(share: str, number: str) -> None:
    one, other = asked(share), asked(number)
    assert one.arm == other.arm and [s.id for s in one.steps] == [s.id for s in other.steps]


def test_shares_are_of_the_recipe_at_hand() -> None:
    for epochs, at in ((4, 1), (8, 2), (2, 0.5)):
        made = asked("lr-rewinding", recipe=replace(RECIPE, epochs=epochs))
        assert (made.arm.start.at, made.arm.seen) == (at, 2 * epochs)
        assert made.plan.steps[made.arm.final].params["until"] == at + epochs


def test_only_places_of_the_training_are_gone_back_to() -> None:
    for spec in ("lr-rewinding,rewind=4", "lr-rewinding,rewind=100%", "hybrid,rewind=5", "weight-rewinding,rewind=4"):
        with pytest.raises(ticketlab.InputError, match=r"asked to rewind to epoch \d, got a recipe of 4 epochs"):
            asked(spec)


def test_mask_steps_are_shared_where_only_the_retraining_differs() -> None:
    """One dense training, and one mask, for all that rank the same trained weights."""
    specs = ["lr-rewinding", "lr-rewinding,rewind=2", "lr-rewinding,epochs=1"]
    made = [asked(spec) for spec in specs]
    assert len({m.arm.start.mask for m in made}) == 1 and len({m.arm.final for m in made}) == 3
    assert len({m.arm.start.weights for m in [*made, asked("fine-tuning"), asked("hybrid")]}) == 1


@pytest.mark.parametrize("spec", ["lr-rewinding", "weight-rewinding", "hybrid,rounds=2"])
def test_from_python(runs: Any, spec: str) -> None:
    """find gives the ticket as its last training starts, train trains it: the same end."""
    run = runs(spec)
    ticket = ticketlab.find(tiny.net, spec, SPARSITY, data=DATA, recipe=RECIPE, seed=SEED, per_class=4)
    assert ticket.mask == run.mask and equal(dict(ticket.weights), run.start)
    assert ticket.at == CASES[spec].start and isinstance(ticket.at, float)
    (end,) = ticketlab.train([ticket], model=tiny.net, data=DATA, recipe=RECIPE, seeds=[SEED], until=CASES[spec].until)
    assert equal(end.weights, dict(run.end.weights)) and end.history == run.history


# Studies.


def ran(folder: Path, methods: list[str], checks: list[str]) -> tuple[Prepared, Any]:
    study = tiny.prepared(folder, methods, checks=checks, sparsity=[SPARSITY], recipe=RECIPE, data=DATA)
    one = plan(study.study, seeds=[0])
    InProcess(study.context).run(one.ordered(), study.store, tiny.Deaf())
    return study, one


REDRAWN = {
    # Trained weights are replaced by fresh ones, which go through the same last training.
    "lr-rewinding": (1, 5),
    "lr-rewinding,rounds=2": (1, 5),
    "hybrid": (1, 5),
    # Rewound ones by fresh ones that train for as many epochs in all.
    "weight-rewinding": (0, 4),
    "weight-rewinding,epochs=50%": (0, 3),
    "lottery": (0, 4),
}


def test_redrawn_weights(tmp_path: Path) -> None:
    study, one = ran(tmp_path / "s", list(REDRAWN), ["reinit"])
    draws = set()
    for spec, span in REDRAWN.items():
        original, tampered = (one.arms[Arm(spec, check, SPARSITY, 0)] for check in (ORIGINAL, "reinit"))
        before, after = (one.steps[arm.final].params for arm in (original, tampered))
        assert (after["start"], after["until"]) == span
        if span[0] == 0:
            assert tampered.seen == original.seen
        else:
            assert before == after
        assert tampered.start.mask == original.start.mask
        step = one.steps[tampered.start.weights]
        assert (step.kind, step.params["draw"]) == ("init", "reinit")
        draws.add(step.id)
        # Buffers too are fresh: no statistics of the trained net.
        assert int(study.store.tensors(step.id, "weights")["norm.num_batches_tracked"]) == 0
        control = study.store.facts(tampered.control or "") or {}
        assert control["passed"] and control["facts"]["values_changed"] == 1.0
    assert len(draws) == 1


@pytest.mark.parametrize("check", ["weight-shuffle", "rearrange"])
def test_tampered_tickets_train_as_long_from_the_same_place(tmp_path: Path, check: str) -> None:
    methods = ["lr-rewinding", "fine-tuning", "hybrid", "weight-rewinding"]
    study, one = ran(tmp_path / "s", methods, [check])
    for spec in methods:
        arms = [one.arms[Arm(spec, c, SPARSITY, 0)] for c in (ORIGINAL, check)]
        assert arms[0].seen == arms[1].seen
        assert one.steps[arms[0].final].params == one.steps[arms[1].final].params
        start, other = (study.store.tensors(a.start.weights, "weights") for a in arms)
        # Statistics and biases stay those of the trained net.
        assert all(torch.equal(start[n], other[n]) for n in start if not n.endswith("weight") or "norm" in n)
        assert study.store.facts(arms[1].control or "")["passed"]  # type: ignore[index]


def test_the_dense_net_is_trained_once_for_all(tmp_path: Path) -> None:
    """And what is compared with is the dense net after one training, not two."""
    _, one = ran(tmp_path / "s", ["lr-rewinding", "fine-tuning", "hybrid", "lr-rewinding,rounds=2"], ["weight-shuffle"])
    (whole,) = [s for s in one.steps.values() if s.kind == "train" and "mask" not in s.inputs]
    assert whole.id == one.arms[Arm("", DENSE, None, 0)].final
    starts = {one.arms[Arm(m, ORIGINAL, SPARSITY, 0)].start.weights for m in ("lr-rewinding", "fine-tuning", "hybrid")}
    assert starts == {whole.id}


def test_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    found = []
    for jobs in (1, 2):
        study = tiny.prepared(
            tmp_path / str(jobs), ["lr-rewinding", "hybrid"], checks=["weight-shuffle", "half-data-su2020"], data=DATA
        )
        results = study.run(jobs)
        store = Store(study.folder / "store")
        found.append(({i: store.digests(i) for i in study.plan.steps}, results["verdicts"], results["controls"]))
        assert results["complete"] and all(c["passed"] for c in results["controls"])
    assert found[0] == found[1] and len(found[0][1]) == 4
