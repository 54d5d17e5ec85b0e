"""Requirements: awkward labels, helpful errors, and no verdict where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlab.errors import InputError
from ticketlab.report import require

from . import sample

RESULTS = sample.results()


def lines(*texts: str) -> list[str]:
    return require.unmet([require.parse(text) for text in texts], RESULTS)


def test_met() -> None:
    assert lines("snip:rearrange@0.98=uses", "snip:rearrange@0.9=does-not-use", "snip:rearrange=decided") == []
    assert lines("synflow:versus:smart-ratio=better", "scores:my_score:invert=uses") == []
    assert lines("grasp,temperature=1:shuffle@.90=does-not-use", "snip:rearrange@0.980 = decided") == []


def test_unmet_names_what_was_found() -> None:
    (line,) = lines("snip:rearrange=uses")
    assert line.startswith("snip:rearrange=uses: at 90% the verdict is 'does not use it' (drop 0.26, -0.42 to 0.95")


@pytest.mark.parametrize("expected", require.EXPECTED)
def test_undecided_and_void_satisfy_nothing(expected: str) -> None:
    void = next(row for row in RESULTS["verdicts"] if row["verdict"] == "void")
    undecided = next(row for row in RESULTS["verdicts"] if row["verdict"] == "undecided")
    for row in (void, undecided):
        assert len(lines(f"{row['method']}:{row['check']}@{row['sparsity']}={expected}")) == 1


def test_not_applicable_and_not_yet() -> None:
    assert lines("synflow:corrupt=decided") == [
        "synflow:corrupt=decided: not applicable (the method does not read data)"
    ]
    found = require.unmet([require.parse("snip:shuffle=decided")], sample.partial())
    assert found == ["snip:shuffle=decided: at 98% there is no verdict yet"]
    assert len(require.unmet([require.parse("snip:shuffle=decided")], sample.empty())) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("snip", "METHOD:CHECK=VERDICT"),
        ("snip=uses", "METHOD:CHECK=VERDICT"),
        ("", "METHOD:CHECK=VERDICT"),
        ("snip:rearrange=use", "Did you mean 'uses'"),
        ("snip:versus:grasp,temperature=1", "verdict"),
        ("snip:rearange=uses", "Did you mean 'rearrange'"),
        ("snop:rearrange=uses", "Did you mean 'snip'"),
        ("snop:rearrange@0.9=uses", "Did you mean 'snip'"),
        ("grasp,temperature=2:shuffle=uses", "Did you mean 'grasp,temperature=1'"),
        ("scores:my_scare:versus:smart-ratio=uses", "Did you mean 'scores:my_score'"),
        ("snip:rearrange@0.95=uses", "Did you mean '0.9' or '0.98'"),
        ("snip:rearrange@=uses", "sparsity"),
        ("snip:rearrange@nan=uses", "sparsity"),
        ("x:y=uses", "no such"),
    ],
)
def test_malformed(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        lines(text)
    assert said in str(error.value) and "asked for" in str(error.value)


def test_names_can_be_checked_before_anything_ran() -> None:
    names = {"methods": [{"label": "snip"}], "checks": [{"name": "rearrange"}], "sparsities": [0.9]}
    require.parse("snip:rearrange@0.9=uses", names)
    with pytest.raises(InputError, match="grasp"):
        require.parse("grasp:rearrange=uses", names)


label = st.text("ab:=,@.9é ", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(label, label, st.sampled_from(sorted(require.EXPECTED)), st.booleans())
def test_any_label_can_be_named(method: str, check: str, expected: str, one: bool) -> None:
    row = {"method": method, "check": check, "sparsity": 0.5, "verdict": "uses"}
    results = {"methods": [{"label": method}], "checks": [{"name": check}], "sparsities": [0.5], "verdicts": [row]}
    text = f"{method}:{check}{'@0.5' if one else ''}={expected}"
    assert bool(require.unmet([require.parse(text, results)], results)) == (expected not in ("uses", "decided"))


@given(st.text(max_size=30))
def test_any_text_is_met_unmet_or_an_input_error(text: str) -> None:
    try:
        assert isinstance(lines(text), list)
    except InputError as error:
        assert "asked for" in str(error)


@given(st.sampled_from(["snip", "scores:my_score", "nope"]), st.text(":=@.0189ab", max_size=12))
def test_near_misses(method: str, rest: str) -> None:
    try:
        lines(f"{method}:{rest}=uses")
    except InputError as error:
        assert "asked for" in str(error)
