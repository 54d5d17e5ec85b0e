"""Programs as data: how they are made from options, what they keep, and how places and lengths are written."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlab.errors import InputError
from ticketlab.methods import METHODS, configured
from ticketlab.program import (
    Edit,
    Program,
    Prune,
    Rewind,
    Train,
    Transform,
    at_init,
    epochs_of,
    in_epochs,
    keeps_weights,
    retrained,
)
from ticketlab.spec import resolve


def program(spec: str, sparsity: float = 0.9) -> Program:
    method, options = configured(*resolve(spec))
    return method.program(sparsity, options)


QUARTER = Rewind("25%", weights=False)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("snip", (Prune(), Train())),
        ("lottery", (Train(), Prune(), Rewind(0.0), Train())),
        ("lottery,rewind=25%", (Train(), Prune(), Rewind("25%"), Train())),
        ("weight-rewinding", (Train(), Prune(), Rewind("25%"), Train())),
        ("weight-rewinding,rewind=40,epochs=10", (Train(), Prune(), Rewind(40.0), Train(epochs=10.0))),
        ("lr-rewinding", (Train(), Prune(), QUARTER, Train(epochs="100%"))),
        ("lr-rewinding,epochs=none", (Train(), Prune(), QUARTER, Train())),
        ("hybrid,rewind=40,epochs=160", (Train(), Prune(), Rewind(40.0, weights=False), Train(epochs=160.0))),
        ("fine-tuning", (Train(), Prune(), Train(epochs="25%"))),
        (
            "fine-tuning,rounds=2,epochs=3",
            (Train(), Prune(of_path=0.5), Train(epochs=3.0), Prune(of_path=1.0), Train(epochs=3.0)),
        ),
        (
            "lr-rewinding,rounds=2",
            (Train(), *2 * (Prune(), QUARTER, Train(epochs="100%"))),
        ),
    ],
)
def test_programs_of_methods(spec: str, expected: Program) -> None:
    found = program(spec)
    assert [s if not isinstance(s, Prune) else Prune() for s in found] == [
        s if not isinstance(s, Prune) else Prune() for s in expected
    ]
    path = [s.of_path for s in found if isinstance(s, Prune)]
    assert path == [(r + 1) / len(path) for r in range(len(path))]


@pytest.mark.parametrize("name", ["imp", "weight-rewinding", "lr-rewinding", "fine-tuning", "hybrid"])
def test_rounds_zero_takes_as_many_as_the_share_needs(name: str) -> None:
    assert sum(isinstance(s, Prune) for s in program(f"{name},rounds=0", 1 - 0.8**5)) == 5
    assert sum(isinstance(s, Prune) for s in program(f"{name},rounds=0,share=0.5", 0.75)) == 2
    assert program(f"{name},rounds=1") == program(f"{name},rounds=0,share=0.95")
    for bad in ("rounds=-1", "rounds=1.5"):
        with pytest.raises(InputError, match="rounds, got no whole number"):
            program(f"{name},{bad}")
    with pytest.raises(InputError, match=r"share 0.*, got no share") as error:
        program(f"{name},rounds=0,share=0")
    assert "in rounds of share 0" in str(error.value)


@pytest.mark.parametrize("rounds", [1, 3])
def test_what_is_kept(rounds: int) -> None:
    """Trained weights are kept unless the last thing done to them brings back others."""
    assert not keeps_weights(at_init())
    assert not keeps_weights(retrained(Rewind(2), rounds))
    assert keeps_weights(retrained(Rewind(2, weights=False), rounds))
    assert keeps_weights(retrained(None, rounds))
    assert keeps_weights(Edit(transform="weight-shuffle")(retrained(None, rounds)))
    assert keeps_weights((*retrained(Rewind(), rounds), Prune(), Train()))
    assert not keeps_weights(Edit(transform="reinit")(retrained(None, rounds)))
    assert not keeps_weights((Train(), Prune(), Rewind(1, weights=False), Transform("reinit"), Train()))


def test_edits_keep_lengths_and_places() -> None:
    plain = retrained(Rewind("25%", weights=False), 2, "50%")
    edited = Edit(data="half-data", transform="rearrange", invert=True)(plain)
    assert [s.epochs for s in edited if isinstance(s, Train)] == [None, "50%", "50%"]
    assert [s.data for s in edited if isinstance(s, Train)] == ["half-data", "half-data", "clean"]
    assert [s for s in edited if isinstance(s, Rewind)] == [s for s in plain if isinstance(s, Rewind)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [(40, 40.0), (2.5, 2.5), (0, 0.0), ("25%", "25%"), (" 25.0% ", "25%"), ("12.5%", "12.5%"), ("1e2%", "100%")],
)
def test_places_have_one_spelling(written: Any, meant: Any) -> None:
    found = epochs_of(written, "rewind")
    assert found == meant and type(found) is type(meant)
    assert epochs_of(found, "rewind") == found


@pytest.mark.parametrize(
    "bad", [-1, math.nan, math.inf, True, None, "", "40", "%", "x%", "-1%", "nan%", "inf%", "25", [1], "2 5%"]
)
def test_what_is_no_place(bad: Any) -> None:
    with pytest.raises(InputError, match=r"asked for rewind=.*, got neither epochs \(40\) nor a share"):
        epochs_of(bad, "rewind")


@given(st.floats(0, 1e4), st.floats(0.01, 1e4))
def test_shares_are_of_the_recipe(number: float, recipe: float) -> None:
    assert in_epochs(number, recipe) == number
    share = epochs_of(f"{number:g}%", "rewind")
    assert in_epochs(share, recipe) == pytest.approx(float(f"{number:g}") / 100 * recipe)


def test_options_reach_the_program_in_one_spelling() -> None:
    assert configured(METHODS["lr-rewinding"], {"rewind": 40, "epochs": "160.0%"})[1] == {
        **METHODS["lr-rewinding"].options,
        "rewind": 40.0,
        "epochs": "160%",
    }
    assert configured(METHODS["fine-tuning"], {"epochs": None})[1]["epochs"] is None
