"""Specs: "name,option=value", how they read, how they are spelled, what they find."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ticketlab
from ticketlab import InputError, Method
from ticketlab.methods import METHODS, configured
from ticketlab.spec import from_function, label, parse, resolve, value_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("snip", ("snip", {})),
        (" snip , rounds = 3 ", ("snip", {"rounds": 3})),
        ("grasp,temperature=1,redraw_classifier=false", ("grasp", {"temperature": 1, "redraw_classifier": False})),
        ("smart-ratio,linear_keep=.5,compat=None", ("smart-ratio", {"linear_keep": 0.5, "compat": None})),
        ("my.module:score,power=-1e-3", ("my.module:score", {"power": -0.001})),
        ("snip,accumulate=a=b", ("snip", {"accumulate": "a=b"})),
    ],
)
def test_parse(text: str, expected: tuple[str, dict[str, Any]]) -> None:
    name, options = parse(text)
    assert (name, options) == expected
    assert [type(v) for v in options.values()] == [type(v) for v in expected[1].values()]


@pytest.mark.parametrize("text", ["snip,", "snip,rounds", "snip,=3", "snip,,rounds=3"])
def test_options_without_a_value(text: str) -> None:
    with pytest.raises(InputError, match="option=value is needed"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("1.0", 1.0), ("TRUE", True), ("none", None), ("train", "train"), ("1e2", 100.0)]
)
def test_values(text: str, value: Any) -> None:
    assert value_of(text) == value and type(value_of(text)) is type(value)


plain_values = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.sampled_from(["train", "su2020", "x"])
)


@given(st.dictionaries(st.from_regex("[a-z_]{1,8}", fullmatch=True), plain_values, max_size=4))
@settings(max_examples=200, deadline=None)
def test_a_label_reads_back(options: dict[str, Any]) -> None:
    """So that no two different options share a label."""
    name, again = parse(label("method", options))
    assert name == "method" and again == options


def test_labels_are_canonical() -> None:
    assert label("grasp", {"temperature": 200.0, "redraw_classifier": True}) == (
        "grasp,redraw_classifier=true,temperature=200"
    )
    assert label("m", {"b": 1, "a": None}) == label("m", {"a": None, "b": 1}) == "m,a=none,b=1"
    assert label("m", {"a": 0.1234567}) != label("m", {"a": 0.1234568})


def test_resolve() -> None:
    assert resolve("snip,mode=eval") == (METHODS["snip"], {"mode": "eval"})
    assert resolve(METHODS["grasp"]) == (METHODS["grasp"], {})
    with pytest.raises(InputError, match="Did you mean 'synflow'"):
        resolve("sinflow")
    with pytest.raises(InputError, match="asked for method"):
        resolve("")


def test_prune_takes_options_from_the_spec_and_beside_it() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    one = ticketlab.prune(model, "magnitude,budget=uniform,select=inverted", 0.5)
    assert one == ticketlab.prune(model, "magnitude,budget=uniform", 0.5, select="inverted")
    assert one != ticketlab.prune(model, "magnitude,budget=uniform,select=inverted", 0.5, select="top-k")


def own_score(scoring: ticketlab.Scoring, power: float = 2.0, mode_of_mine: str = "x") -> dict[str, Any]:
    """What I think matters.

    More about it.
    """
    return {n: w.detach().abs() ** power for n, w in scoring.weights.items()}


def test_functions() -> None:
    method = from_function(own_score)
    assert (method.name, method.summary, method.paper) == ("own_score", "What I think matters.", "yours")
    assert dict(method.options) == {"power": 2.0, "mode_of_mine": "x"} and method.score is own_score


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder that Python forgets after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("user_"):
            del sys.modules[name]


SOURCE = """
from ticketlab import Method

def score(model, batches, loss, power=1.0):
    return {n: p.detach().abs() ** power for n, p in model.named_parameters()}

def pair(one, two):
    return {}

method = Method("mine", score=lambda scoring: {n: -w.detach() for n, w in scoring.weights.items()})
number = 3
"""


def test_functions_by_name(folder: Path) -> None:
    (folder / "user_scores.py").write_text(SOURCE)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    assert ticketlab.prune(model, "user_scores:score", 0.5) == ticketlab.prune(model, "magnitude", 0.5)
    inverted = ticketlab.prune(model, "user_scores:score,power=-1", 0.5)
    assert inverted == ticketlab.prune(model, "magnitude", 0.5, select="inverted")
    assert ticketlab.prune(model, "user_scores:method", 0.5).fingerprint["method"] == "mine"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("user_scores:scor", "Did you mean 'score'"),
        ("user_scores:number", "int, not a function"),
        ("user_scores:pair", "takes"),
        ("user_nowhere:score", "no module 'user_nowhere'"),
        ("user_scores:", "no name on both sides"),
        (":score", "no name on both sides"),
        ("user_broken:score", "ZeroDivisionError on importing it"),
        ("user_needs:score", "needs 'not_installed_at_all'"),
    ],
)
def test_names_that_lead_nowhere(folder: Path, spec: str, words: str) -> None:
    (folder / "user_scores.py").write_text(SOURCE)
    (folder / "user_broken.py").write_text("1 / 0")
    (folder / "user_needs.py").write_text("import not_installed_at_all")
    with pytest.raises(InputError, match=words):
        resolve(spec)


def test_register() -> None:
    method = Method("mine-of-this-test", score=own_score, options={"power": 2.0})
    try:
        assert ticketlab.register(method) is method
        model = nn.Sequential(nn.Linear(6, 8))
        assert ticketlab.prune(model, "mine-of-this-test,power=3", 0.5) == ticketlab.prune(model, "magnitude", 0.5)
        with pytest.raises(InputError, match="taken"):
            ticketlab.register(method)
    finally:
        METHODS.pop("mine-of-this-test", None)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"budget": "gobal"}, "Did you mean 'global'"),
        ({"select": "topk"}, "selection"),
        ({"mode": "training"}, "mode"),
        ({"score": None}, "no score to select by"),
        ({"rounds": 0}, "0 rounds"),
    ],
)
def test_register_checks_the_choices(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ticketlab.register(Method(**({"name": "wrong", "score": own_score} | choices)))
    assert "wrong" not in METHODS


def test_numbers_take_the_kind_of_the_default() -> None:
    _, own = configured(METHODS["grasp"], {"temperature": 1})
    assert own["temperature"] == 1.0 and type(own["temperature"]) is float
    for name, value in [("temperature", True), ("temperature", "1"), ("redraw_classifier", 1)]:
        with pytest.raises(InputError, match=name):
            configured(METHODS["grasp"], {name: value})
