"""What is averaged in one cell are repetitions of one thing: anything else is left out, and it is said why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ticketlab.engine.recipe import Recipe
from ticketlab.reproduce.protocol import sift
from ticketlab.reproduce.records import Record
from ticketlab.reproduce.table import Row

from .made import NUMERICS, RECIPE, record, runs, table

DATA = record("snip", 0.9, 0, 90.0).data


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recipe": Recipe(epochs=80).to_json()}, "epochs 80, not 160"),
        (
            {"recipe": Recipe(lr=0.05, drops=(0.5,)).to_json()},
            "lr 0.05, not 0.1, drops 0.5, not 0.5/0.75",
        ),
        ({"recipe": {"epochs": 160}}, "a recipe of another version"),
        ({"recipe": {**RECIPE.to_json(), "sam": 0.1}}, "a recipe of another version"),
        ({"method": "snip"}, "snip as snip"),
        ({"check": "rearrange"}, "snip as snip,mode=eval under rearrange"),
        ({"model": {"name": "mlp", "identity": "x", "prunable": 1}}, "model mlp, not conv"),
        ({"model": {"name": "conv", "identity": "x", "prunable": 1}}, "another version of the model"),
        ({"data": {**DATA, "fingerprint": "other"}}, "other images"),
        ({"per_class": 5}, "5 scoring images per class, not 10"),
        ({"numerics": {**NUMERICS, "precision": "bf16"}}, "in bf16, which --precision bf16 shows"),
        ({"sparsity": 0.8}, "cells that the table does not have"),
        ({"row": "grasp"}, "cells that the table does not have"),
        ({"protocol": "quick"}, "of made, quick"),
        ({"table": "su2020/other"}, "of su2020/other, in full"),
    ],
)
def test_what_was_made_otherwise(changes: dict[str, Any], why: str) -> None:
    good = runs("snip", 0.9, 90.0, 91.0)
    found = sift(table(), [*good, replace(record("snip", 0.9, 2, 10.0), **changes)], "fp32")
    assert found.kept == good and found.left_out == {why: 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "snip,mode=eval"},
        {"numerics": {**NUMERICS, "device": "cuda:1", "gpu": "some", "engine": "eager", "torch": "2.9"}},
        {"provenance": {}, "seconds": 1, "per_class": None},
        {"recipe": {k: v for k, v in RECIPE.to_json().items() if k != "warmup"}},
    ],
)
def test_what_may_differ(changes: dict[str, Any]) -> None:
    """Machines, the spelling of nothing that matters, and fields that a recipe did not have yet."""
    good = [*runs("snip", 0.9, 90.0), replace(record("snip", 0.9, 1, 91.0), **changes)]
    assert sift(table(), good, "fp32").kept == good and not sift(table(), good).left_out


def test_methods_count_by_what_they_mean() -> None:
    rows = (Row("snip", {"net": "lr-rewinding,rewind=25%,epochs=100%"}, None), *table().rows[1:])
    one = record("snip", 0.9, 0, 90.0, method="lr-rewinding,epochs=100%,rewind=25%")
    assert sift(table(rows=rows), [one]).kept == [one]


def test_without_precision_or_data_at_hand_the_majority_decides() -> None:
    bf16 = runs("random", 0.9, 80.0, 81.0, 82.0, numerics={**NUMERICS, "precision": "bf16"})
    fp32 = runs("snip", 0.9, 90.0, 91.0)
    assert sift(table(), [*fp32, *bf16]).kept == bf16
    assert sift(table(), [*fp32, *bf16], "fp32").kept == fp32
    assert sift(table(), [*fp32, *bf16], "tf32").left_out == {
        "in bf16, which --precision bf16 shows": 3,
        "in fp32, which --precision fp32 shows": 2,
    }


def test_quick_tables_say_how_many_images() -> None:
    def quick(train: int) -> Record:
        return record("snip", 0.9, train, 50.0, protocol="quick", data={**DATA, "train": train, "test": 200})

    found = sift(table(quick=True, train=400, test=200), [quick(400), quick(800)])
    assert found.kept == [quick(400)] and found.left_out == {"800 images to train, not 400": 1}


def test_the_data_sets_own_recipe_where_a_table_has_none() -> None:
    own = record("snip", 0.9, 0, 90.0, recipe=Recipe(epochs=15).to_json())
    found = sift(table(training=None), [own, record("snip", 0.9, 1, 90.0)])
    assert found.kept == [own] and found.left_out == {"epochs 160, not 15": 1}


def test_nothing() -> None:
    assert sift(table(), []).kept == [] and sift(table(), []).left_out == {}
