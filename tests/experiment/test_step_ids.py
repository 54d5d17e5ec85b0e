"""Step ids are the names of stored results: these were written down, and no change of the code may move them."""

from __future__ import annotations

import pytest

from ticketlab.experiment.arms import Arm, Plan
from ticketlab.experiment.identity import digest
from ticketlab.experiment.plan import plan
from ticketlab.experiment.step import Step
from ticketlab.experiment.study import Study

# Conditions in plain words: nothing here depends on a machine, or on the version of Python that read somebody's code.
STUDY = Study(
    data={
        "name": "some", "classes": 3, "in_shape": [1, 8, 8], "train": 60, "test": 40, "chance": 100 / 3,
        "fingerprint": "of the data",
    },
    model={"name": "net", "identity": "of the net", "drawn": True, "prunable": 420, "layers": {"first": 36}},
    recipe={
        "epochs": 4, "batch_size": 10, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "step",
        "drops": [0.5, 0.75], "warmup": 0.0, "nesterov": False, "augment": False,
    },
    numerics={"device": "cpu", "precision": "fp32", "threads_per_ticket": 1, "engine": "tuned", "torch": "2.0"},
    scoring={"per_class": 4},
    statistics={},
    methods=("snip", "lottery,rewind=1", "imp,rounds=2", "grasp+sampled"),
    checks=("corrupted", "half-data-su2020", "rearrange", "weight-shuffle", "reinit", "invert", "versus:smart-ratio"),
    sparsities=(0.8, 0.95),
    seeds=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(STUDY)


@pytest.mark.parametrize(
    ("arm", "final", "control", "mask"),
    [
        (("", "dense", None, 0), "e53ffed8d423677b4b9890073819f907", None, None),
        (("snip", "original", 0.8, 0), "198896d2b70a6b260b9f9f63d646d37a", None, "2490f85a53902cc6b80966d9fc58e207"),
        (
            ("snip", "rearrange", 0.8, 1),
            "7a16bee03333f327d104f1530af5492e",
            "b293cbe61ea12fc906412efa45de977a",
            "a014fe14613987b5d52c8442dcb8edd9",
        ),
        (
            ("snip", "versus:smart-ratio", 0.8, 0),
            "b811667c0fe7c90adffe80c828110366",
            "39a705b9a787b456e1ae3822afcd1ea1",
            "ccc00945794a2542930cf264edf39a8a",
        ),
        (
            ("lottery,rewind=1", "corrupted", 0.95, 0),
            "a4f8947c4708a1751a0d8b220a4ba8a3",
            "293abb43c5635b7ecd17b4108d91e1e4",
            "ef7ee23e91e793e799cf2aebc64b1a9c",
        ),
        (
            ("lottery,rewind=1", "half-data-su2020", 0.8, 0),
            "c7a2bf0f8b8ae4efed634d5a9e2b12a3",
            "77e88b7cdd44128ce3d6db7ebbc27907",
            "cec2251d85d5e86b747bab8ec0b73cc1",
        ),
        (
            ("imp,rounds=2", "reinit", 0.8, 1),
            "e05bd58c0a7869825fcbd35bd8460e4a",
            "710b6c2a9ae68bfdbcc92c38bf13a028",
            "e4f389398f5f9550a0d3a5a214c81839",
        ),
        (
            ("grasp+sampled", "weight-shuffle", 0.95, 1),
            "e3da4316df062b963b43dac6f21d7729",
            "0fa42c6d6f549127d69bfb9f9bdbdf53",
            "8648629d5015e720360d0fd84e001129",
        ),
    ],
)
def test_ids_of_planned_steps(
    planned: Plan, arm: tuple[str, str, float | None, int], final: str, control: str | None, mask: str | None
) -> None:
    trained = planned.arms[Arm(*arm)]
    assert (trained.final, trained.control, trained.start.mask) == (final, control, mask)


def test_the_whole_plan(planned: Plan) -> None:
    """Every step of it, and no other."""
    assert (len(planned.steps), len(planned.arms)) == (354, 126)
    assert digest(sorted(planned.steps)) == "13a670006f6cc2f426658dbec331510d"


def test_ids_of_plain_steps() -> None:
    assert Step("init", {"seed": 0, "draw": "init", "in_shape": [1, 8, 8]}).id == "e693d2a8445be6b74883e9bfb2212a43"
    odd = Step("train", {"numerics": {"é": None, "b": [1.5, 1e-07, True]}}, {"weights": "a", "mask": "b"})
    assert odd.id == "79445e59d8cae7aec2cbed8cd56da584"
    assert Step("control", {}, {}).id == "574e5acd5135882e00b4c321be0abe6a"
    assert digest([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5"
    assert digest({"a": 1.0, "b": 1}) == "e88f180ac4892b48447f5bd4649a6755"
