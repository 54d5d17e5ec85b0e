"""Published results as means and standard deviations (Su et al. 2020, the number of runs assumed)."""

from __future__ import annotations

import pytest
from scipy.stats import ttest_ind_from_stats

from ticketlab.errors import InputError
from ticketlab.stats import compare_summaries


@pytest.mark.parametrize(
    ("published", "n", "shown", "p_diff", "p_equiv", "verdict"),
    [
        ((93.02, 0.28, 91.29, 0.28), 3, (1.73, 1.10, 2.36, 1.24, 2.22), 0.0016, 0.997, "uses"),
        ((93.02, 0.28, 91.29, 0.28), 5, (1.73, 1.32, 2.14, 1.40, 2.06), 0.00001, 1.00, "uses"),
        ((93.02, 0.28, 92.03, 0.21), 3, (0.99, 0.41, 1.57, 0.55, 1.43), 0.0097, 0.961, "uses"),
        ((93.02, 0.28, 92.03, 0.21), 5, (0.99, 0.62, 1.36, 0.70, 1.28), 0.0003, 0.992, "uses"),
        ((92.45, 0.22, 91.90, 0.23), 3, (0.55, 0.04, 1.06, 0.16, 0.94), 0.040, 0.60, "uses"),
        ((92.45, 0.22, 91.90, 0.23), 5, (0.55, 0.22, 0.88, 0.29, 0.81), 0.0048, 0.63, "uses"),
        ((91.37, 0.28, 91.29, 0.28), 3, (0.08, -0.55, 0.71, -0.41, 0.57), 0.74, 0.070, "undecided"),
        ((91.37, 0.28, 91.29, 0.28), 5, (0.08, -0.33, 0.49, -0.25, 0.41), 0.66, 0.023, "does not use"),
        ((69.28, 0.40, 67.22, 3.42), 5, (2.06, -2.17, 6.29, -1.20, 5.32), 0.25, 0.82, "undecided"),
        ((92.45, 0.22, 81.37, 18.17), 5, (11.08, -11.48, 33.64, -6.24, 28.40), 0.24, 0.87, "undecided"),
    ],
)
def test_published_claims(published: tuple, n: int, shown: tuple, p_diff: float, p_equiv: float, verdict: str) -> None:
    mean1, sd1, mean2, sd2 = published
    s = compare_summaries(mean1, sd1, n, mean2, sd2, n, 0.5)
    assert (s.drop, s.ci_low, s.ci_high, s.eq_low, s.eq_high) == pytest.approx(shown, abs=0.0051)
    assert s.p_diff == pytest.approx(p_diff, rel=0.06, abs=6e-6)
    assert s.p_equiv == pytest.approx(p_equiv, abs=0.0051)
    assert s.verdict == verdict and "standard deviation" in s.text and "not paired" in s.text
    assert s.p_diff == pytest.approx(ttest_ind_from_stats(mean1, sd1, n, mean2, sd2, n, equal_var=False).pvalue)


@pytest.mark.parametrize(
    ("n", "sd", "margin", "message"), [(2, 0.3, 0.5, "got 5 and 2 runs"), (5, 0.0, 0.5, "above 0"), (5, 1, 0, "margin")]
)
def test_refused(n: int, sd: float, margin: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare_summaries(93, sd, 5, 92, sd, n, margin)
