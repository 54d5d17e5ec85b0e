from __future__ import annotations

import pytest

from ticketlab.stats import answer, foot, judge, sentence

from .studies import compare, settings, single

FAMILY = settings(looks=(3, 5), weights=(0.5, 0.5))
ARMS = {
    "uses": ("93.02 92.71 93.30", "91.29 91.02 91.57"),
    "does not use": ("92.55 92.61 92.48 92.70 92.59", "92.60 92.55 92.52 92.66 92.61"),
    "negligible": ("94.10 94.22 93.95 94.15 94.05", "93.88 94.00 93.76 93.93 93.85"),
    "gain": ("93.88 94.00 93.76 93.93 93.85", "94.10 94.22 93.95 94.15 94.05"),
    "undecided": ("92.8 93.1 92.4", "92.5 92.9 92.7"),
    "better": ("91.90 91.70 92.10 91.85 91.95", "92.45 92.30 92.71 92.38 92.52"),
    "collapse": ("93 93 93", "10 10 10"),
    "void": ("10 10 10 10 93", "10 10 10 93 93"),
    "unstable": ("93.0 93.1 92.9 93.2 93.0", "92.9 93.0 10 10 10"),
    "survivors": ("93 93.1 10 93.2 93.1 93", "91.01 91 91 91.2 91.1 91"),
}


@pytest.mark.parametrize(
    ("case", "start", "end"),
    [
        ("uses", "Rearranging costs 1.72 points (1.66 to 1.77; 3 seeds)", "depends on where its weights sit."),
        (
            "does not use",
            "Rearranging changes accuracy by less than the margin of 0.5 points (-0.05 to 0.04; 5 seeds).",
            "No ticket collapsed; collapse in up to 45% of seeds is not excluded.",
        ),
        ("negligible", "Rearranging costs 0.21 points (0.19 to 0.23; 5 seeds): real, but inside the margin of 0.5", ""),
        ("gain", "Rearranged tickets are better by 0.21 points (0.19 to 0.23; 5 seeds): real, but inside", ""),
        ("undecided", "Undecided: anything from -0.73 to 0.87 points fits these 3 seeds.", "6 would be needed."),
        ("better", "Rearranged tickets are better by 0.57 points (0.53 to 0.61; 5 seeds).", ""),
        ("collapse", "Rearranging makes tickets collapse: 0 of 3 original and 3 of 3 tampered tickets are at", "sit."),
        ("void", "Void: 4 of 5 original and 3 of 5 tampered tickets are at chance; nothing to compare.", ""),
        ("unstable", "Undecided: unstable, 0 of 5 original and 3 of 5 tampered tickets are at chance.", ""),
        ("survivors", "Rearranging costs 2.02 points (", "This method's result depends on where its weights sit."),
    ],
)
def test_sentences(case: str, start: str, end: str) -> None:
    text = sentence(single(*ARMS[case]))
    assert text.startswith(start) and text.endswith(end)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("uses", "snip beats random by 1.72 points (1.66 to 1.77; 3 seeds), more than the margin of 0.5."),
        ("does not use", "snip does not beat random by more than the margin: they differ by less than 0.5 points"),
        ("better", "random is better by 0.57 points (0.53 to 0.61; 5 seeds)."),
        ("negligible", "snip beats random by 0.21 points (0.19 to 0.23; 5 seeds): real, but inside the margin of 0.5"),
        ("collapse", "snip beats random: tickets collapse: 0 of 3 snip and 3 of 3 random tickets are at chance."),
    ],
)
def test_sentences_about_another_method(case: str, text: str) -> None:
    c = compare(*ARMS[case], check="versus:random")
    assert sentence(judge([c], settings(looks=(c.seeds,)))[0]).startswith(text)


def test_no_sentence_says_more_than_the_numbers() -> None:
    checks = "corrupted random-labels random-pixels half-data rearrange weight-shuffle reinit invert versus:grasp new"
    for arms in ARMS.values():
        for check in checks.split():
            c = compare(*arms, check=check)
            text = sentence(judge([c], settings(looks=(c.seeds,)))[0])
            assert text.endswith(".") and ".." not in text and "  " not in text
            assert not any(word in text for word in ("no effect", "identical", "prove", "significant", "None", "nan"))


def test_more_seeds_are_announced() -> None:
    a = (93.02, 92.71, 93.30, 92.95, 93.11, 92.88, 93.20, 93.05)
    b = (92.80, 92.70, 92.75, 93.00, 92.60, 92.55, 93.05, 92.50)
    v = judge([compare(a, b)], settings(looks=(8, 12), weights=(0.2, 0.8), alpha=0.02))[0]
    text = sentence(v)
    assert text.startswith("Undecided: anything from ") and " points fits these 8 seeds." in text
    assert "About 4 more seeds (12 in all) would decide with probability 0.8 or more." in text


def test_answer_says_only_what_the_verdicts_say() -> None:
    rows = {
        "uses": ("rearrange", "invert"),
        "does not use": ("random-labels", "reinit", "versus:random"),
        "undecided": ("half-data",),
        "void": ("corrupted",),
        "better": ("versus:grasp",),
    }
    verdicts = [single(*ARMS[case]) for case in rows]
    named = [
        type(v)(**{**vars(v), "check": check})
        for v, checks in zip(verdicts, rows.values(), strict=True)
        for check in checks
    ]
    assert answer(named) == (
        "snip at 90%: its result depends on where its weights sit and on the ranking of its scores; "
        "its result does not depend on the labels or on its initial weights (within 0.5 points); "
        "it does not beat random by more than the margin of 0.5 points; grasp is better; "
        "undecided: half-data; void: corrupted."
    )


def test_foot_names_the_family_and_the_chance_of_a_false_claim() -> None:
    v = single(*ARMS["uses"])
    text = " ".join(foot([v] * 12, FAMILY))
    assert "12 comparisons" in text and "at 3, 5 seeds" in text and "10,000 images" in text
    assert "At most 5% of such reports contain a false 'uses it'" in text
    assert "about 0.6 false rows" in foot([v] * 12, settings(multiplicity="none"))[-1]
    assert "5% may be wrong" in foot([v] * 12, settings(multiplicity="bh"))[-1]
