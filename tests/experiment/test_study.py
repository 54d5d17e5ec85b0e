"""What a study keeps, how it may grow, and that results say the whole truth in plain values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import nn

import ticketlab
from ticketlab.errors import InputError
from ticketlab.experiment import execute
from ticketlab.experiment.prepared import reopen
from ticketlab.experiment.study import Study

# A rate so high that the last epoch is not always the best.
ROUGH = replace(tiny.RECIPE, lr=0.4, schedule="constant")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data": tiny.data(seed=1)}, "data fingerprint"),
        ({"data": tiny.data(train=50)}, "data train"),
        ({"model": tiny.Net}, "model "),
        ({"recipe": replace(tiny.RECIPE, epochs=3)}, "recipe epochs: the study has 2, asked for 3"),
        ({"recipe": replace(tiny.RECIPE, lr=0.2)}, "recipe lr: the study has 0.1, asked for 0.2"),
        ({"per_class": 5}, "scoring per_class: the study has 4, asked for 5"),
        ({"margin": 20}, "statistics margin: the study has '10', asked for '20'"),
        ({"alpha": 0.1}, "statistics alpha"),
        ({"final": True}, "statistics looks"),
    ],
)
def test_a_study_keeps_what_decides_its_results(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    found = tiny.prepared(tmp_path / "s", checks=["rearrange"])
    found.study.save(found.folder)
    before = (tmp_path / "s" / "study.json").read_bytes()
    with pytest.raises(InputError) as error:
        tiny.prepared(tmp_path / "s", checks=["rearrange"], **changes)
    assert named in str(error.value) and len(str(error.value).splitlines()) <= 12
    assert (tmp_path / "s" / "study.json").read_bytes() == before


def test_other_numerics_are_refused(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s")
    replace(found.study, numerics={**found.study.numerics, "torch": "1.0"}).save(found.folder)
    with pytest.raises(InputError, match=r"numerics torch: the study has '1\.0'"):
        tiny.prepared(tmp_path / "s")


def test_a_study_grows_and_never_shrinks(tmp_path: Path) -> None:
    first = tiny.prepared(tmp_path / "s", ["snip"], checks=["rearrange"], sparsity=[0.8], seeds=4)
    first.study.save(first.folder)
    second = tiny.prepared(tmp_path / "s", ["magnitude", "snip"], checks=["reinit"], sparsity=[0.5], seeds=3)
    assert second.study.methods == ("snip", "magnitude") and second.study.checks == ("rearrange", "reinit")
    assert second.study.sparsities == (0.5, 0.8) and second.study.seeds == 4
    assert second.study.statistics == first.study.statistics


def test_a_study_survives_its_file(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "ein Ördner mit Leerzeichen")
    found.study.save(found.folder)
    assert Study.load(found.folder) == found.study
    for text in ("", "[]", "{}", '{"format": 7}', '{"format": 1, "x": 2}', "\ud800"):
        (found.folder / "study.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(InputError, match="cannot be read"):
            Study.load(found.folder)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="no study and not empty"):
        tiny.prepared(tmp_path)
    with pytest.raises(InputError, match="no study and not empty"):
        tiny.prepared(tmp_path / "thesis.tex")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_results_are_plain_complete_and_honest(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s", ["snip", "lottery"], checks=["all"], sparsity=[0.5, 0.8], recipe=ROUGH)
    results = found.run()
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert results["complete"] and results["steps_done"] == results["steps_total"] == len(found.plan.steps)
    assert len(results["verdicts"]) == 2 * 2 * 9 + 2 == len(results["controls"])
    for run in results["runs"]:
        facts = found.store.facts(run["step"])
        assert facts is not None
        # The last epoch's accuracy, not the best one's.
        assert run["accuracy"] == facts["history"][-1]["accuracy"] and run["epochs_seen"] == 2
        right = found.store.tensors(run["step"], "correct")["correct"]
        assert run["accuracy"] == 100 * int(right.sum()) / 40
    assert any(r["best"] > r["accuracy"] for r in results["runs"])
    means = {(r["method"], r["check"], r["sparsity"]): 0.0 for r in results["runs"]}
    for key in means:
        means[key] = float(
            np.mean([r["accuracy"] for r in results["runs"] if (r["method"], r["check"], r["sparsity"]) == key])
        )
    shown = [v for v in results["verdicts"] if v["drop"] is not None and v["dead"] == [0, 0]]
    for v in shown:
        drop = means[v["method"], "original", v["sparsity"]] - means[v["method"], v["check"], v["sparsity"]]
        assert v["drop"] == pytest.approx(drop)
    assert shown
    _, again = reopen(tmp_path / "s")
    assert again == results


def test_a_better_epoch_before_the_last_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny.prepared(tmp_path / "a", ["lottery"], checks=["rearrange"]).run()
    train_jobs = execute.train_jobs

    def boosted(*arguments: Any, **options: Any) -> Any:
        results = train_jobs(*arguments, **options)
        for result in results:
            result.history[0]["accuracy"] = 100.0
        return results

    monkeypatch.setattr(execute, "train_jobs", boosted)
    results = tiny.prepared(tmp_path / "b", ["lottery"], checks=["rearrange"]).run()
    assert {r["best"] for r in results["runs"]} == {100.0} != {r["best"] for r in plain["runs"]}
    assert results["verdicts"] == plain["verdicts"] and results["dense"] == plain["dense"]


@pytest.mark.parametrize("after", [1, 12, 40])
def test_an_incomplete_study_can_be_read(tmp_path: Path, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny.prepared(tmp_path / "s", ["snip", "lottery"], checks=["all"]).run(1, tiny.Counter(stop_after=after))
    _, results = reopen(tmp_path / "s")
    json.dumps(results, allow_nan=False)
    assert not results["complete"] and 0 < results["steps_done"] < results["steps_total"]
    assert {r["status"] for r in results["runs"] if r["accuracy"] is None} == {"pending"}
    # Verdicts need three seeds, so that nothing is decided from fewer.
    assert all(v["verdict"] == "undecided" or v["n"] >= 3 for v in results["verdicts"])


def test_damage_is_no_crash_for_a_reader(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s", checks=["rearrange"])
    found.run()
    final = next(t.final for a, t in found.plan.arms.items() if a.check == "rearrange")
    (found.folder / "store" / "steps" / final[:2] / final / "tensors.safetensors").write_bytes(b"")
    assert reopen(tmp_path / "s")[1]["complete"], "what the complete run wrote is shown"
    (found.folder / "results.json").unlink()
    _, results = reopen(tmp_path / "s")
    assert not results["complete"] and [r["status"] for r in results["runs"]].count("pending") == 1


@pytest.mark.parametrize(
    ("changes", "both"),
    [
        ({"methods": ["snpi"]}, "asked for method 'snpi', got no such method. Did you mean 'snip'"),
        ({"methods": ["snip,mood=train"]}, "Did you mean 'mode'"),
        ({"methods": []}, "got nothing to compare"),
        ({"methods": ["grasp,temperature=nan"]}, "give a finite number"),
        ({"methods": ["grasp,temperature=hot"]}, "give the same kind"),
        ({"checks": ["rearange"]}, "Did you mean 'rearrange'"),
        ({"checks": []}, "asked for no check"),
        ({"checks": ["versus:snpi"]}, "Did you mean 'snip'"),
        ({"sparsity": [1.0]}, "asked for sparsity 1.0, got a fraction removed outside [0, 1)"),
        ({"sparsity": [90]}, "Did you mean 0.9"),
        ({"sparsity": [-0.1]}, "outside [0, 1)"),
        ({"sparsity": [float("nan")]}, "outside [0, 1)"),
        ({"sparsity": []}, "no sparsity"),
        ({"sparsity": [0.97]}, "the linear layer 'last.weight' alone keeps 29"),
        ({"methods": ["lottery,classifier=dense"], "sparsity": [0.8]}, "the dense classifier alone has 96"),
        ({"seeds": 2}, "got 2 seeds"),
        ({"seeds": 0}, "asked for 0 seeds"),
        ({"per_class": 0}, "asked for 0 scoring images per class"),
        ({"margin": 7.4}, "of your 40 test images"),
        ({"margin": "much"}, "asked for a margin, got 'much'"),
        ({"alpha": 0}, "asked for an alpha between 0 and 1"),
        ({"device": "cuda:0"}, "asked for device 'cuda:0'"),
        ({"model": nn.Embedding(3, 3)}, "no prunable weights"),
        ({"model": "resnet19"}, "Did you mean"),
        ({"model": tiny.Net(4)}, "got outputs (2, 4) for 2 examples"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(63, 3))}, "cannot take a batch of shape (2, 1, 8, 8)"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path, changes: dict[str, Any], both: str) -> None:
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InputError) as error:
        tiny.prepared(tmp_path / "s", **{"methods": ["snip"], **changes})
    assert both in str(error.value) and len(str(error.value).splitlines()) <= 12
    assert not (tmp_path / "s").exists()


def test_a_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    broken = tiny.Net()
    with torch.no_grad():
        broken.last.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN or infinite outputs"):
        tiny.prepared(tmp_path / "s", model=broken)


def test_check_takes_what_users_have(tmp_path: Path) -> None:
    """Data sets of pairs, labels with a gap, scalars of numpy, a module, a temporary study."""

    class Pairs(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __init__(self, n: int) -> None:
            self.split = tiny.data(train=n).train

        def __len__(self) -> int:
            return len(self.split)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return self.split.inputs[i].float() / 255, int(self.split.targets[i]) * 2

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))
    report = ticketlab.check(
        "snip", "snip", "magnitude", model=model, data=(Pairs(60), Pairs(40)), sparsity=np.float32(0.8), seeds=3,
        checks=["corrupted"], recipe=tiny.RECIPE, margin="20%",
    )  # fmt: skip
    assert report.results["sparsities"] == [0.8] and report.results["data"]["classes"] == 5
    assert [m["label"] for m in report.results["methods"]] == ["snip", "magnitude"]
    assert report.verdicts[1]["verdict"] == "does not use"


def test_close_names_stay_apart(tmp_path: Path) -> None:
    found = tiny.prepared(
        tmp_path / "s", ["grasp,temperature=1", "grasp", "grasp,temperature=200"], checks=["versus:tiny:score,power=2"]
    )
    results = found.run()
    one, two, three = ([r["step"] for r in results["runs"] if r["method"] == m] for m in found.study.methods)
    assert one != two == three
    assert len(results["verdicts"]) == 3


@pytest.mark.parametrize("sparsity", [0, 0.999])
def test_extreme_sparsities(tmp_path: Path, sparsity: float) -> None:
    results = tiny.prepared(
        tmp_path / "s", ["snip", "lottery"], sparsity=[sparsity], checks=["rearrange", "invert", "versus:magnitude"]
    ).run()
    kept = {sum(row["kept"]) for row in results["layers"]}
    assert kept == {420 if sparsity == 0 else 0}
    # Nothing can be rearranged or inverted there: void, not "does not use".
    assert {v["verdict"] for v in results["verdicts"] if "versus" not in v["check"]} == {"void"}


def test_two_classes(tmp_path: Path) -> None:
    results = tiny.prepared(tmp_path / "s", data=tiny.data(classes=2), checks=["all"], sparsity=[0.5]).run()
    assert all(c["passed"] for c in results["controls"])
