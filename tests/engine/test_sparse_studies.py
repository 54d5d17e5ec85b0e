"""Sparse training in studies: asked for, left open or switched off, kept for life, and measured where it may pay."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

import ticketlab
from engine.engines import LONG, images, kernels_needed, net
from ticketlab.commands.common import default_folder
from ticketlab.engine import choose
from ticketlab.engine.choose import Measurements, Speed, Work, measure, mixed
from ticketlab.engine.engine import State
from ticketlab.engine.sparse import Sparse
from ticketlab.errors import InputError
from ticketlab.experiment import settings
from ticketlab.experiment.estimate import best_engine, work_of
from ticketlab.experiment.settings import asked_engine, numerics
from ticketlab.experiment.study import Study
from ticketlab.experiment.workplace import check_numerics
from ticketlab.sparse import library
from ticketlab.sparse.revision import revision


@pytest.fixture(autouse=True)
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels_needed()


@pytest.mark.parametrize(
    ("engine", "sparse", "found"),
    [
        (None, "auto", None),
        (None, "on", "sparse"),
        (None, "off", None),
        ("sparse", "auto", "sparse"),
        ("sparse", "on", "sparse"),
        ("plain", "auto", "plain"),
        ("plain", "off", "plain"),
    ],
)
def test_what_is_asked_for(engine: str | None, sparse: str, found: str | None) -> None:
    assert asked_engine(engine, sparse) == found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "tuned", "sparse": "on"}, "asked for sparse training on, got engine 'tuned'"),
        ({"engine": "sparse", "sparse": "off"}, "asked for sparse training off, got engine 'sparse'"),
        ({"sparse": "no"}, "asked for sparse training 'no'"),
        ({"sparse": "on", "device": "cpu", "precision": "bf16"}, "precision bf16"),
    ],
)
def test_contradictions_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ticketlab.engine.precision._has_bf16", lambda _: True)
    with pytest.raises(InputError, match=said):
        tiny.prepared(tmp_path / "s", **changes)
    asked = {"model": tiny.net, "data": images(), "recipe": LONG, **changes}
    with pytest.raises(InputError, match=said):
        ticketlab.train([ticketlab.Ticket(None, net().state_dict())], **asked)
    with pytest.raises(InputError, match=said):
        ticketlab.check("snip", sparsity=0.8, out=tmp_path / "s", **asked)
    assert not (tmp_path / "s").exists()


def test_a_model_that_the_kernels_do_not_know_is_refused_before_anything_runs(tmp_path: Path) -> None:
    class Smooth(tiny.Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.tanh(self.second(torch.relu(self.norm(self.first(x)))))
            return self.last(x.flatten(1))

    with pytest.raises(InputError, match="asked for a sparse Smooth, got function tanh"):
        tiny.prepared(tmp_path / "s", model=Smooth, sparse="on")
    assert not (tmp_path / "s").exists()


def test_a_study_keeps_how_it_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny.prepared(tmp_path / "s", sparse="on")
    results = first.run()
    kept = Study.load(tmp_path / "s").numerics
    assert (kept["engine"], kept["kernels"], kept["kernels_level"]) == ("sparse", revision(), library.level())
    assert first.estimate(1).seconds == 0
    progress = tiny.Counter()
    tiny.prepared(tmp_path / "s").run(1, progress)
    assert progress.done == results["steps_total"]
    with pytest.raises(InputError, match="asked for sparse training off, got a study of engine 'sparse'"):
        tiny.prepared(tmp_path / "s", sparse="off")
    with pytest.raises(InputError, match="numerics engine: the study has 'sparse', asked for 'tuned'"):
        tiny.prepared(tmp_path / "s", engine="tuned")
    # Other kernels would give other bits.
    with monkeypatch.context() as patch:
        patch.setattr(settings, "revision", lambda: "other")
        with pytest.raises(InputError, match=f"numerics kernels: the study has '{revision()}', asked for 'other'"):
            tiny.prepared(tmp_path / "s")
    other = tiny.prepared(tmp_path / "t", engine="tuned")
    other.run()
    with pytest.raises(InputError, match="numerics engine: the study has 'tuned', asked for 'sparse'"):
        tiny.prepared(tmp_path / "t", sparse="on")
    # Its tickets are found by no engine, and are the same; studies of others say nothing of kernels.
    masks = [{s.id for s in p.plan.steps.values() if s.kind == "prune"} for p in (first, other)]
    assert masks[0] == masks[1] and masks[0]
    trainings = [{s.id for s in p.plan.steps.values() if s.kind == "train"} for p in (first, other)]
    assert not trainings[0] & trainings[1]
    assert not {"kernels", "kernels_level"} & {*other.study.numerics}


def test_results_are_bit_equal_on_any_number_of_workers(tmp_path: Path) -> None:
    studies = [tiny.prepared(tmp_path / str(jobs), sparse="on") for jobs in (1, 2)]
    for jobs, study in enumerate(studies, 1):
        study.run(jobs)
    trainings = [s.id for s in studies[0].plan.steps.values() if s.kind == "train"]
    for step in trainings:
        one, two = ({**(study.store.facts(step) or {}), "provenance": None} for study in studies)
        assert one["history"] and one == two
        correct = [study.store.tensors(step, "correct")["correct"] for study in studies]
        assert torch.equal(*correct)


def test_a_worker_of_another_instruction_set_or_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = numerics("cpu", "fp32", "sparse")
    check_numerics(wanted, "here")
    with monkeypatch.context() as patch:
        patch.setenv("TICKETLAB_SPARSE_LEVEL", "plain")
        if library.level() != wanted["kernels_level"]:
            with pytest.raises(
                InputError, match=f"kernels_level '{wanted['kernels_level']}' as here, got 'plain' at x"
            ):
                check_numerics(wanted, "x")
    with monkeypatch.context() as patch:
        patch.setenv("TICKETLAB_CXXFLAGS", "-ffast-math")
        with pytest.raises(InputError, match=f"with kernels '{wanted['kernels']}' as here, got .* at there"):
            check_numerics(wanted, "there")


def test_a_folder_keeps_its_name_where_sparse_training_is_left_open() -> None:
    asked = {"data": "digits", "model": "conv", "engine": None}
    names = [default_folder(Namespace(**asked, **more), set()) for more in ({}, {"sparse": "auto"}, {"sparse": "on"})]
    assert names[0] == names[1] != names[2]


# Left open.


def test_mixed_speeds_by_hand() -> None:
    """A quarter at 100 images a second and the rest at 300: 0.0025 + 0.0025 seconds an image."""
    parts = [(0.25, Speed("tuned", 100, 1000, 1.0)), (0.75, Speed("sparse", 300, 1000, 5.0))]
    found = mixed("sparse", parts)
    assert found.train_images_s == pytest.approx(200) and found.test_images_s == pytest.approx(1000)
    assert (found.spec, found.setup_s) == ("sparse", 5.0)


def known() -> Measurements:
    return Measurements(net(), images(), LONG, identity="net")


@pytest.fixture
def rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None]]:
    """Measured rates: tuned 100 images a second, tickets five times that, nearly dense ones half of it."""
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choose, "level", lambda: "avx2")
    tried: list[tuple[str, float | None]] = []

    def speed(spec: str, *arguments: Any, **options: Any) -> Speed:
        tried.append((spec, options.get("sparsity")))
        if spec != "sparse":
            return Speed(spec, 100.0 if spec == "tuned" else 50.0, 1e9, 0.0)
        return Speed(spec, 500.0 if options["sparsity"] > 0.75 else 50.0, 1e9, 1.0)

    monkeypatch.setattr(choose, "measure", speed)
    return tried


@pytest.mark.parametrize(
    ("work", "best", "sparsities"),
    [
        (Work(20_000, 0, 8, {0.9: 0.75, 0.95: 0.25}), "sparse", {0.9, 0.95}),
        # Short plans, dense ones, and those that were told to do without are not even measured.
        (Work(9_000, 0, 8, {0.9: 1.0}), "tuned", set()),
        (Work(20_000, 0, 8, {0.9: 0.09}), "tuned", set()),
        (Work(20_000, 0, 8), "tuned", set()),
        # Measured, and not clearly faster: because of the tickets' speed, or because of the dense trainings.
        (Work(20_000, 0, 8, {0.7: 1.0}), "tuned", {0.7}),
        (Work(20_000, 0, 8, {0.9: 0.12}), "tuned", {0.9}),
    ],
)
def test_it_is_chosen_where_the_plan_as_a_whole_ends_clearly_earlier(
    work: Work, best: str, sparsities: set[float], rates: list[tuple[str, float | None]]
) -> None:
    assert choose.choose(known(), work).spec == best
    assert {sparsity for spec, sparsity in rates if spec == "sparse"} == sparsities


def test_measurements_are_kept_by_sparsity_and_kernels(
    rates: list[tuple[str, float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        assert known().needed("sparse", 0.9).train_images_s == 500
        assert known().needed("sparse", 0.6).train_images_s == 50
    assert rates == [("sparse", 0.9), ("sparse", 0.6)]
    monkeypatch.setattr(choose, "revision", lambda: "other")
    known().needed("sparse", 0.9)
    assert rates[2:] == [("sparse", 0.9)]
    # What has another name than it was measured under is not believed.
    file = known()._file
    held = json.loads(file.read_text())
    file.write_text(json.dumps({name.replace("sparse", "tuned"): entry for name, entry in held.items()}))
    assert not known()._read()


def test_it_is_measured_on_a_ticket_of_the_sparsity_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[float] = []
    load = Sparse.load

    def looked(engine: Sparse, jobs: Any) -> None:
        load(engine, jobs)
        kept.extend(1 - job.mask.sparsity for job in jobs)
        assert isinstance(engine.state(0), State) and engine._model is not None

    monkeypatch.setattr(Sparse, "load", looked)
    for sparsity in (0.7, 0.97):
        found = measure("sparse", net(), images(), LONG, seconds=0.01, sparsity=sparsity)
        assert found.train_images_s > 0 and found.spec == "sparse"
    # Of 420 weights; at 97% the smart ratio has no room for its linear layer, and the uniform one takes its place.
    assert kept == pytest.approx([126 / 420, 13 / 420])


def test_a_plan_says_how_sparse_its_trainings_are(tmp_path: Path) -> None:
    recipe = replace(tiny.RECIPE, epochs=4)
    asked: dict[str, Any] = {"sparsity": [0.9, 0.3], "checks": ["rearrange"], "recipe": recipe}
    found = tiny.prepared(tmp_path / "s", ["lottery"], **asked)
    steps = list(found.plan.steps.values())
    trainings = [step for step in steps if step.kind == "train"]
    work = work_of(steps, found.context, steps)
    # Of the 90% tickets and their rearranged twins; those of 30% and the nets before pruning count as dense.
    thin = [s for s in trainings if "mask" in s.inputs and _asked(found, s) == 0.9]
    assert 0 < len(thin) < len(trainings) and {_asked(found, s) for s in thin} == {0.9}
    assert [*work.shares] == [pytest.approx(0.9)]
    epochs = [s.params["until"] - s.params["start"] for s in thin]
    assert sum(work.shares.values()) == pytest.approx(sum(epochs) * 60 / work.train_images)


def _asked(found: Any, step: Any) -> float:
    while step.kind != "prune":
        step = found.plan.steps[step.inputs["mask"]]
    return float(step.params["sparsity"])


def test_a_long_study_gets_it_and_one_told_otherwise_does_not(
    tmp_path: Path, rates: list[tuple[str, float | None]], measured_engine: None
) -> None:
    # Sixty images, a hundred a second.
    long = replace(tiny.RECIPE, epochs=300)
    found = tiny.prepared(tmp_path / "s", recipe=long)
    assert found.study.numerics["engine"] == "sparse" == found.context.engine
    assert found.study.numerics["kernels"] == revision()
    steps = list(found.plan.steps.values())
    assert {s.params["numerics"]["engine"] for s in steps if s.kind == "train"} == {"sparse"}
    assert found.estimate(1).seconds < 0.6 * work_of(steps, found.context, steps).train_images / 100
    assert best_engine(steps, found.study, found.context, False) == "tuned"
    assert tiny.prepared(tmp_path / "t", recipe=long, sparse="off").study.numerics["engine"] == "tuned"
    assert tiny.prepared(tmp_path / "u", recipe=long, precision="fp32", engine="plain").context.engine == "plain"


def test_a_machine_without_a_compiler_chooses_among_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> str:
        raise InputError("asked for the native sparse kernels, got no C++ compiler")

    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choose, "level", lacking)
    monkeypatch.setattr(choose, "_WORTH_SPARSE", 0.0)
    monkeypatch.setattr(choose, "_WORTH_STACKING", 1e9)
    monkeypatch.setattr(choose, "_WORTH_COMPILING", 1e9)
    assert choose.choose(known(), Work(20_000, 0, 8, {0.9: 1.0})).spec in ("plain", "tuned", "tuned+im2col")
