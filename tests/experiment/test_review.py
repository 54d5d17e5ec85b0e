"""Faults that a review found once: each stays found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

import ticketlab
from ticketlab.errors import InputError
from ticketlab.experiment.arms import ORIGINAL, Arm
from ticketlab.experiment.context import Context
from ticketlab.experiment.prepared import reopen


@pytest.mark.parametrize("method", ["lottery,rewind=1", "imp,rewind=1,rounds=2"])
@pytest.mark.parametrize("check", ["corrupted", "random-labels", "random-pixels", "half-data"])
def test_a_ticket_is_rewound_to_weights_of_clean_data(method: str, check: str, tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s", methods=[method], checks=[check], sparsity=[0.5])
    for seed in range(3):
        original, tampered = (found.plan.arms[Arm(method, c, 0.5, seed)] for c in (ORIGINAL, check))
        assert original.start.weights == tampered.start.weights and original.start.at == tampered.start.at == 1
        assert found.plan.steps[tampered.start.weights].params["variant"] == "clean"
    (control,) = found.run()["controls"]
    assert control["passed"] and control["facts"]["same_start_weights"] and control["facts"]["found_on_other_data"]


def test_a_stage_that_ignores_its_variant_makes_the_check_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tiny.prepared(tmp_path / "s", methods=["snip", "lottery"], checks=["random-labels"], sparsity=[0.5])
    split = Context.split

    def clean_for_stages(self: Context, variant: str, seed: int) -> Any:
        return (self.data.train, split(self, variant, seed)[1])

    monkeypatch.setattr(Context, "split", clean_for_stages)
    results = found.run()
    assert [v["verdict"] for v in results["verdicts"]] == ["void", "void"]
    assert all("same data" in c["summary"] for c in results["controls"])


def shares(model: nn.Module, batches: Any, loss: Any, share: float = 0.1, rounds: int = 1) -> dict[str, Tensor]:
    """Options with names that programs use too."""
    noise = torch.Generator().manual_seed(int(100 * share))
    return {n: torch.rand(p.shape, generator=noise) for n, p in model.named_parameters()}


def test_options_of_a_score_belong_to_its_identity_whatever_their_names(tmp_path: Path) -> None:
    name = f"{__name__}:shares"
    found = tiny.prepared(
        tmp_path / "s", methods=[f"{name},share=0.1", f"{name},share=0.9"], checks=["rearrange"], sparsity=[0.5]
    )
    one, other = (found.plan.arms[Arm(m, ORIGINAL, 0.5, 0)].start.mask for m in found.study.methods)
    assert one != other


def test_nothing_to_compare_trains_nothing(tmp_path: Path) -> None:
    found = tiny.prepared(tmp_path / "s", methods=["random"], checks=["rearrange"], sparsity=[0.5])
    with pytest.raises(InputError, match=r"nothing to compare.*random, rearrange: random draws"):
        found.run()
    assert not (tmp_path / "s").exists()


def broken(model: nn.Module, batches: Any, loss: Any) -> dict[str, Tensor]:
    """No numbers."""
    return {n: torch.full_like(p, float("nan")) for n, p in model.named_parameters()}


def test_a_method_that_fails_at_once_does_not_lock_the_folder(tmp_path: Path) -> None:
    name = f"{__name__}:broken"
    options: dict[str, Any] = {"checks": ["rearrange"], "sparsity": [0.5]}
    with pytest.raises(InputError, match="NaN"):
        tiny.prepared(tmp_path / "s", methods=[name], **options).run()
    assert tiny.prepared(tmp_path / "s", methods=["snip"], **options).run()["complete"]
    with pytest.raises(InputError, match="NaN"):
        tiny.prepared(tmp_path / "s", methods=[name], **options).run()
    again = tiny.prepared(tmp_path / "s", methods=["snip"], **options)
    assert again.study.methods == ("snip",) and again.run()["complete"]


def test_a_complete_study_is_shown_whatever_became_of_its_score(tmp_path: Path) -> None:
    def mine(model: nn.Module, batches: Any, loss: Any) -> dict[str, Tensor]:
        return {n: p.detach().abs() for n, p in model.named_parameters()}

    report = ticketlab.check(
        mine,
        model=tiny.net,
        data=tiny.data(),
        sparsity=0.5,
        seeds=3,
        checks=["rearrange"],
        recipe=tiny.RECIPE,
        margin=10,
        out=tmp_path / "s",
    )
    assert reopen(tmp_path / "s")[1] == report.results


def always_the_same(num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    return tiny.Net(num_classes)


def test_a_factory_that_ignores_the_seed_is_told(tmp_path: Path) -> None:
    report = ticketlab.check(
        "snip",
        model=always_the_same,
        data=tiny.data(),
        sparsity=0.5,
        seeds=3,
        checks=["rearrange", "reinit"],
        recipe=tiny.RECIPE,
        margin=10,
    )
    assert [e["check"] for e in report.results["not_applicable"]] == ["reinit"]
    assert "Every seed starts from the same weights" in " ".join(str(report).split())


def test_unequal_budgets_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights kept\s+against"):
        tiny.prepared(
            tmp_path / "s", methods=["snip"], checks=["versus:smart-ratio,compat=su2020"], sparsity=[0.51, 0.53, 0.57]
        )


@pytest.mark.parametrize("method", ["lottery,rewind=2", "imp,rounds=1.5", "imp,rounds=-1"])
def test_fractions_are_not_cut(method: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        tiny.prepared(tmp_path / "s", methods=[method], sparsity=[0.5])
