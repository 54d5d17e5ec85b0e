"""The terminal report is complete at every width, without colour, and ends in the answer."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from ticketlab.report import notes, terminal, words

from . import sample


def shown(results: dict[str, Any], width: int, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    terminal.render(results, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 120])
def test_every_verdict_in_words_and_the_answer_last(width: int) -> None:
    results = sample.results()
    text = shown(results, width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    counted = {name: sum(row["verdict"] == name for row in results["verdicts"]) for name in words.VERDICTS}
    assert all(counted.values()), "the sample holds every verdict"
    # only the tables: the foot quotes verdicts too
    tables = text[text.index("Sparsity 90%") : text.index("Averaged over sparsities")]
    lines = [line.rstrip() for line in tables.splitlines()]
    for name, (word, _) in words.VERDICTS.items():
        assert sum(line.endswith(f"   {word}") for line in lines) == counted[name]
    assert flat(text).endswith(flat(results["answer"]))


def test_every_row_has_its_drop_interval_and_method() -> None:
    results = sample.results()
    text = shown(results, 80)
    for row in results["verdicts"]:
        assert row["method"] in text
        assert f" {row['drop']:.2f} ".replace("-0.00", "0.00") in text
        assert words.interval(row["ci_low"], row["ci_high"]) in text


def test_what_surrounds_the_tables() -> None:
    text = flat(shown(sample.results(), 80))
    for said in (
        "97.01% (n = 5",
        "at chance: 1 of 5 original, 2 of 5 tampered",
        "45 of 46 passed",
        "the method does not read data",
        "Control failed for scores:my_score · shuffle at 90%",
        "no weight left in conv1",
        "Family: 50 comparisons; Holm",
        "at 5, 10, 20 seeds; taken: 5",
        "Margin: 1.74 points, 2% of dense - chance.",
        "tickets at chance at 98%",
        "test set of 360 images",
        "At most 5% of such reports",
    ):
        assert said in text
    for word in ("significant", "proves", "no effect", "identical"):
        assert word not in text


@pytest.mark.parametrize("results", [{}, sample.empty(), sample.partial()], ids=["nothing", "empty", "partial"])
def test_incomplete_results(results: dict[str, Any]) -> None:
    text = flat(shown(results, 80))
    assert text.endswith(flat(notes.answer(results)))
    assert ("not complete" in text) == bool(results)


def test_a_terminal_without_utf8_gets_plain_letters() -> None:
    text = shown(sample.results(), 80, "ascii")
    assert "Control failed for scores:my_score - shuffle" in flat(text)


def test_labels_are_never_markup() -> None:
    results = sample.results()
    results["answer"] = "[red]not[/red] markup \x1b[31m"
    text = shown(results, 80)
    assert "[red]not[/red] markup" in text and "\x1b" not in text


def test_several_answers_all_come_last() -> None:
    results = sample.results() | {"answer": "snip at 90%: open.\nsnip at 98%: uses it."}
    assert shown(results, 80).rstrip().splitlines()[-2:] == results["answer"].splitlines()


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.00"), (-0.001, "0.00"), (-0.2, "-0.20"), (None, ""), (float("nan"), ""), (True, "")]
)
def test_points(value: object, text: str) -> None:
    assert words.points(value) == text
    assert words.points(value, sign=True) in (text, f"+{text}")


def test_missed_positive_control_is_told() -> None:
    results = sample.results()
    row = next(row for row in results["verdicts"] if row["check"] == "invert")
    row["verdict"] = "does not use"
    assert any("'does not use' for snip at 90%" in line for line in notes.warnings(results))
