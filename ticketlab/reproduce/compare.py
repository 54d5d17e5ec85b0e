"""A table's records beside what others published, and what they say about the paper's claims."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ticketlab import stats
from ticketlab.data.names import DATASETS
from ticketlab.errors import InputError
from ticketlab.reproduce.cells import Cell, cells
from ticketlab.reproduce.published import Figure, Figures
from ticketlab.reproduce.records import Record, numerics, one_per_seed
from ticketlab.reproduce.table import DENSE, Claim, Table
from ticketlab.stats.comparison import FEWEST_SEEDS
from ticketlab.stats.plan import FEWEST_IMAGES

PUBLISHED_RUNS = 3
"""The paper gives a mean ± a spread over a number of runs that it does not state: so many are assumed."""


@dataclass(frozen=True)
class Line:
    """One cell: what was published, and what was measured here.

    Attributes:
        accuracies: percent after the last epoch, one for each of ``seeds``; NaN where the training diverged.
        best: the same after the best epoch, which the test set chose.
        chance: percent; what a diverged training counts as, as collapsed ones do in published means.
        same_protocol: whether the published figure is of this protocol, so that the difference means something.
        epochs_seen: how many epochs the weights were trained for in all.
        where: devices and precisions of the runs.
    """

    cell: Cell
    published: Figure | None
    reproduced: Figure | None
    chance: float
    same_protocol: bool = True
    seeds: tuple[int, ...] = ()
    accuracies: tuple[float, ...] = ()
    best: tuple[float, ...] = ()
    epochs_seen: float | None = None
    where: tuple[str, ...] = ()
    failed_controls: int = 0

    @property
    def n(self) -> int:
        """How many seeds have run."""
        return len(self.accuracies)

    @property
    def diverged(self) -> int:
        """How many of them diverged."""
        return sum(map(math.isnan, self.accuracies))

    @property
    def mean(self) -> float | None:
        """The mean over the seeds, None without any."""
        return fmean(self._counted(self.accuracies)) if self.accuracies else None

    @property
    def sd(self) -> float | None:
        """The standard deviation over the seeds, None with fewer than two."""
        return stdev(self._counted(self.accuracies)) if self.n > 1 else None

    @property
    def best_mean(self) -> float | None:
        """The mean of the best epochs."""
        return fmean(self._counted(self.best)) if self.best else None

    @property
    def difference(self) -> float | None:
        """Ours minus the published mean, in points."""
        return None if self.mean is None or self.published is None else self.mean - self.published.mean

    @property
    def standard_errors(self) -> float | None:
        """The difference in standard errors of both means; None where either spread is unknown, or both are zero."""
        if self.difference is None or self.sd is None or self.published is None or self.published.sd is None:
            return None
        error = math.sqrt(self.sd**2 / self.n + self.published.sd**2 / PUBLISHED_RUNS)
        return self.difference / error if error and self.same_protocol else None

    def _counted(self, values: Sequence[float]) -> list[float]:
        return [self.chance if math.isnan(value) else value for value in values]


@dataclass(frozen=True)
class Finding:
    """A claim at one place of the table.

    Attributes:
        published: the published means' difference, in points.
        standard_errors: how far ours is from it, in standard errors of both.
        verdict: "higher", "lower", "no different", "undecided" or "void".
        holds: whether that is what the claim says; None where nothing is decided.
        collapsed: whether a ticket of either row is at chance.
    """

    claim: Claim
    dataset: str
    network: str
    sparsity: float
    published: float | None
    n: int
    difference: float | None
    standard_errors: float | None
    low: float | None
    high: float | None
    verdict: str
    reason: str
    holds: bool | None
    margin: float
    collapsed: bool


_WORDS = {
    stats.USES: "higher",
    stats.BETTER_WITHOUT: "lower",
    stats.DOES_NOT_USE: "no different",
    stats.UNDECIDED: "undecided",
    stats.VOID: "void",
}
_HOLDS = {
    "higher": {"higher": True, "lower": False, "no different": False},
    "equal": {"higher": False, "lower": False, "no different": True},
}


def lines(table: Table, figures: Figures, found: Sequence[Record]) -> list[Line]:
    """Every cell of the table, those that have not run too."""
    kept = one_per_seed(found)
    return [_line(cell, table, figures, [r for r in kept if _of(r) == cell]) for cell in cells(table)]


def _line(cell: Cell, table: Table, figures: Figures, found: list[Record]) -> Line:
    found = sorted(found, key=lambda record: record.seed)
    return Line(
        cell,
        figures.published(cell),
        figures.reproduced(cell),
        100 / DATASETS[cell.dataset].classes,
        not table.quick,
        tuple(r.seed for r in found),
        tuple(_percent(r.accuracy) for r in found),
        tuple(_percent(r.best) for r in found),
        found[0].epochs_seen if found else None,
        tuple(sorted({f"{r.numerics['device']} {r.numerics['precision']}" for r in found})),
        sum(r.control is not None and not r.control["passed"] for r in found),
    )


def planned(table: Table, seeds: int | None = None) -> int:
    """How many seeds the claims are judged at, once: as the table plans, or more where more were asked for.

    Never fewer, or whoever looks at each seed could stop at the best moment. Below three nothing is decided.
    """
    return max(table.seeds, seeds or 0, FEWEST_SEEDS)


def findings(table: Table, figures: Figures, found: Sequence[Record], seeds: int | None = None) -> list[Finding]:
    """What the records say about each of the table's claims: paired by seed, one Holm family a network and data set.

    Args:
        seeds: how many were asked for, if anybody did; see ``planned``.
    """
    asked = [(claim, sparsity) for sparsity in table.sparsities for claim in table.claims]
    return [
        finding
        for dataset in table.datasets
        for network in table.networks
        for finding in _family(
            table,
            asked,
            figures,
            [r for r in found if (r.dataset, r.network) == (dataset, network)],
            planned(table, seeds),
        )
    ]


def _family(
    table: Table, asked: list[tuple[Claim, float]], figures: Figures, found: list[Record], seeds: int
) -> list[Finding]:
    if not found or not asked:
        return []
    dataset, network = found[0].dataset, found[0].network
    chance, test = 100 / DATASETS[dataset].classes, found[0].data["test"]
    comparisons = [_comparison(index, *asked[index], found, seeds) for index in range(len(asked))]
    dense = tuple(_percent(r.accuracy) for r in one_per_seed(found) if r.row == DENSE and r.seed < seeds)
    best = max((r.accuracy for r in found if r.accuracy is not None), default=chance)
    margin = _margin(test, chance, dense if any(map(math.isfinite, dense)) else (best,))
    settings = stats.Settings(
        test_size=test, chance=chance, dense=dense or None, margin=margin, looks=(seeds,), weights=(1.0,)
    )
    return [
        _finding(claim, Cell(dataset, network, claim.higher, sparsity), verdict, figures, not table.quick)
        for (claim, sparsity), verdict in zip(asked, stats.judge(comparisons, settings), strict=True)
    ]


def _margin(test: int, chance: float, reached: Sequence[float]) -> float:
    """The usual margin, or what the test set resolves where it is too small for that."""
    try:
        return stats.resolve_margin(None, test, chance, reached)
    except InputError:
        return 100 * FEWEST_IMAGES / test


def _comparison(index: int, claim: Claim, sparsity: float, found: list[Record], seeds: int) -> stats.Comparison:
    pairs = _pairs(claim, sparsity, found, seeds)
    failed = [r.control["summary"] for pair in pairs for r in pair if r.control and not r.control["passed"]]
    higher, lower = (tuple(_percent(pair[side].accuracy) for pair in pairs) for side in (0, 1))
    return stats.Comparison(
        claim.higher,
        # Two claims may be about the same rows.
        f"versus:{claim.lower}, claim {index}",
        sparsity,
        higher,
        lower,
        control_ok=not failed,
        control_note=failed[0] if failed else "",
    )


def _pairs(claim: Claim, sparsity: float, found: list[Record], seeds: int) -> list[tuple[Record, Record]]:
    """Both rows of each planned seed under the same numerics: anything else would compare machines."""
    having = Counter(map(numerics, found))
    runs: dict[tuple[str, int], dict[str, Record]] = {}
    for record in found:
        if record.sparsity == sparsity and record.seed < seeds:
            runs.setdefault((record.row, record.seed), {}).setdefault(numerics(record), record)
    pairs = []
    for seed in range(seeds):
        one, other = runs.get((claim.higher, seed), {}), runs.get((claim.lower, seed), {})
        if both := one.keys() & other.keys():
            most = max(both, key=lambda name: (having[name], name))
            pairs.append((one[most], other[most]))
    return pairs


def _percent(value: float | None) -> float:
    return math.nan if value is None else value


def _finding(claim: Claim, cell: Cell, verdict: stats.Verdict, figures: Figures, same_protocol: bool) -> Finding:
    word = _WORDS[verdict.verdict] if verdict.n else "not run"
    other = Cell(cell.dataset, cell.network, claim.lower, cell.sparsity)
    first, second = (figures.published(c) for c in (cell, other))
    published = first.mean - second.mean if first and second else None
    apart = None
    collapsed = any(verdict.dead)
    if published is not None and verdict.drop is not None and verdict.sd and same_protocol and not collapsed:
        assert first and second
        if first.sd is not None and second.sd is not None:
            spread = (first.sd**2 + second.sd**2) / PUBLISHED_RUNS
            apart = (verdict.drop - published) / math.sqrt(verdict.sd**2 / verdict.n + spread)
    # No test rests on an interval over dead pairs too.
    shown = not verdict.ci_covers.startswith("all")
    reason = verdict.reason.replace(" original and ", f" {claim.higher} and ").replace(
        " tampered tickets", f" {claim.lower} tickets"
    )
    assert cell.sparsity is not None
    return Finding(
        claim,
        cell.dataset,
        cell.network,
        cell.sparsity,
        published,
        verdict.n,
        verdict.drop,
        apart,
        verdict.ci_low if shown else None,
        verdict.ci_high if shown else None,
        word,
        reason,
        _HOLDS[claim.expect].get(word),
        verdict.margin,
        collapsed,
    )


def _of(record: Record) -> Cell:
    return Cell(record.dataset, record.network, record.row, record.sparsity)
