"""A table's records beside what others published, and what they say about the paper's claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ticketlab import stats
from ticketlab.data.names import DATASETS
from ticketlab.experiment import settings
from ticketlab.reproduce.cells import Cell, cells
from ticketlab.reproduce.published import Figure, Figures
from ticketlab.reproduce.records import Record, one_per_seed
from ticketlab.reproduce.table import DENSE, Claim, Table

PUBLISHED_RUNS = 3
"""The paper gives a mean ± a spread over a number of runs that it does not state: so many are assumed."""


@dataclass(frozen=True)
class Line:
    """One cell: what was published, and what was measured here.

    Attributes:
        accuracies: percent after the last epoch, one a seed; NaN where the training diverged.
        best: the same after the best epoch, which the test set chose.
        epochs_seen: how many epochs the weights were trained for in all.
        where: devices and precisions of the runs.
    """

    cell: Cell
    published: Figure | None
    reproduced: Figure | None
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
    def mean(self) -> float | None:
        """The mean over the seeds, None without any."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def sd(self) -> float | None:
        """The standard deviation over the seeds, None with fewer than two."""
        return stdev(self.accuracies) if self.n > 1 and all(map(math.isfinite, self.accuracies)) else None

    @property
    def best_mean(self) -> float | None:
        """The mean of the best epochs."""
        return fmean(self.best) if self.best else None

    @property
    def difference(self) -> float | None:
        """Ours minus the published mean, in points."""
        return None if self.mean is None or self.published is None else self.mean - self.published.mean

    @property
    def standard_errors(self) -> float | None:
        """The difference in standard errors of both means; None where one run gives no spread."""
        if self.difference is None or self.sd is None or self.published is None:
            return None
        published = (self.published.sd or 0.0) ** 2 / PUBLISHED_RUNS
        error = math.sqrt(self.sd**2 / self.n + published)
        return self.difference / error if error else None


@dataclass(frozen=True)
class Finding:
    """A claim at one place of the table.

    Attributes:
        published: the published means' difference, in points.
        standard_errors: how far ours is from it, in standard errors of both.
        verdict: "higher", "lower", "no different", "undecided" or "void".
        holds: whether that is what the claim says; None where nothing is decided.
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
    margin: float | None


_WORDS = {
    stats.USES: "higher",
    stats.BETTER_WITHOUT: "lower",
    stats.DOES_NOT_USE: "no different",
    stats.UNDECIDED: "undecided",
    stats.VOID: "void",
}
_HOLDS = {"higher": {"higher": True, "lower": False, "no different": False}, "equal": {}}
_HOLDS["equal"] = {"higher": False, "lower": False, "no different": True}


def lines(table: Table, figures: Figures, found: Sequence[Record]) -> list[Line]:
    """Every cell of the table, those that have not run too."""
    kept = one_per_seed(found)
    return [_line(cell, figures, [r for r in kept if _of(r) == cell]) for cell in cells(table)]


def _line(cell: Cell, figures: Figures, found: list[Record]) -> Line:
    found = sorted(found, key=lambda record: record.seed)
    return Line(
        cell,
        figures.published(cell),
        figures.reproduced(cell),
        tuple(_accuracy(r) for r in found),
        tuple(r.best for r in found if r.best is not None),
        found[0].epochs_seen if found else None,
        tuple(sorted({f"{r.numerics['device']} {r.numerics['precision']}" for r in found})),
        sum(r.control is not None and not r.control["passed"] for r in found),
    )


def findings(table: Table, figures: Figures, found: Sequence[Record], seeds: int | None = None) -> list[Finding]:
    """What the records say about each of the table's claims: paired by seed, one Holm family a network and data set.

    Args:
        seeds: how many were planned; as the table says if None.
    """
    kept = one_per_seed(found)
    return [
        finding
        for dataset in table.datasets
        for network in table.networks
        for finding in _family(
            table, figures, [r for r in kept if (r.dataset, r.network) == (dataset, network)], dataset, network, seeds
        )
    ]


def _family(
    table: Table, figures: Figures, found: list[Record], dataset: str, network: str, seeds: int | None
) -> list[Finding]:
    asked = [(claim, sparsity) for sparsity in table.sparsities for claim in table.claims]
    if not found or not asked:
        return []
    comparisons = [_comparison(claim, sparsity, found) for claim, sparsity in asked]
    dense = [r.accuracy for r in found if r.row == DENSE and r.accuracy is not None]
    chance, test = 100 / DATASETS[dataset].classes, found[0].data["test"]
    planned = max(seeds or table.seeds, 3)
    wanted = settings.statistics(
        seeds=planned, final=True, alpha=0.05, margin=None, multiplicity="holm", family="report", test="paired",
        test_size=test, chance=chance,
    )  # fmt: skip
    margin = stats.resolve_margin(None, test, chance, dense or [100.0])
    verdicts = stats.judge(comparisons, settings.judging(wanted, test, chance, margin, tuple(dense) or None))
    return [
        _finding(claim, Cell(dataset, network, claim.higher, sparsity), verdict, figures, margin)
        for (claim, sparsity), verdict in zip(asked, verdicts, strict=True)
    ]


def _comparison(claim: Claim, sparsity: float, found: list[Record]) -> stats.Comparison:
    rows = [{r.seed: r for r in found if (r.row, r.sparsity) == (row, sparsity)} for row in (claim.higher, claim.lower)]
    pairs = [(rows[0][seed], rows[1][seed]) for seed in sorted(rows[0].keys() & rows[1].keys())]
    # Pairs whose numerics differ would compare machines.
    pairs = [(a, b) for a, b in pairs if a.numerics == b.numerics]
    failed = [r.control["summary"] for pair in pairs for r in pair if r.control and not r.control["passed"]]
    higher, lower = (tuple(_accuracy(pair[side]) for pair in pairs) for side in (0, 1))
    return stats.Comparison(
        claim.higher,
        f"versus:{claim.lower}",
        sparsity,
        higher,
        lower,
        control_ok=not failed,
        control_note=failed[0] if failed else "",
    )


def _accuracy(record: Record) -> float:
    return math.nan if record.accuracy is None else record.accuracy


def _finding(claim: Claim, cell: Cell, verdict: stats.Verdict, figures: Figures, margin: float) -> Finding:
    word = _WORDS[verdict.verdict]
    if not verdict.n:
        word = "not run"
    other = Cell(cell.dataset, cell.network, claim.lower, cell.sparsity)
    first, second = (figures.published(c) for c in (cell, other))
    published = first.mean - second.mean if first and second else None
    apart = None
    if first and second and published is not None and verdict.drop is not None and verdict.sd and verdict.n > 1:
        spread = ((first.sd or 0.0) ** 2 + (second.sd or 0.0) ** 2) / PUBLISHED_RUNS
        apart = (verdict.drop - published) / math.sqrt(verdict.sd**2 / verdict.n + spread)
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
        verdict.ci_low,
        verdict.ci_high,
        word,
        verdict.reason or "",
        _HOLDS[claim.expect].get(word),
        margin,
    )


def _of(record: Record) -> Cell:
    return Cell(record.dataset, record.network, record.row, record.sparsity)
