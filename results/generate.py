"""Write results/README.md, and the table in the README, from the records in this folder: `make results`.

A file PAPER/TABLE.quick.jsonl or PAPER/TABLE.paper.jsonl holds the records of one table, one training a line, as
`ticketlab reproduce --save` writes them.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from ticketlab.report import words
from ticketlab.report.reproduction import Reproduction, markdown
from ticketlab.reproduce import records, table
from ticketlab.reproduce.compare import findings, lines
from ticketlab.reproduce.protocol import sift
from ticketlab.reproduce.published import Figures
from ticketlab.reproduce.records import Record

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results: written by `make results` -->", "<!-- end of results -->"


def found() -> list[Reproduction]:
    """Every table of which there are records, full protocol first."""
    all_ = []
    for protocol in ("paper", "quick"):
        for name in table.names():
            path = HERE / f"{name}.{protocol}.jsonl"
            if path.is_file():
                wanted = table.load(name, protocol == "quick")
                figures, sifted = Figures.load(wanted), sift(wanted, records.load(path))
                kept = sifted.kept
                if not kept:
                    raise SystemExit(f"{path}: none of its records is of the table as it is now: {sifted.left_out}")
                told = lines(wanted, figures, kept), findings(wanted, figures, kept)
                all_.append(Reproduction(wanted, figures, *told, kept, sifted.left_out))
    return all_


def provenance(kept: list[Record]) -> str:
    """What the records of a table were made with, in one sentence."""
    machines = Counter(
        f"{r.provenance.get('gpu') or r.provenance['machine']} ({r.numerics['device']}, {r.numerics['precision']}, "
        f"engine {r.numerics['engine']}, torch {r.numerics['torch']})"
        for r in kept
    )
    commits = sorted({_short(str(r.provenance["commit"])) for r in kept})
    days = sorted({r.finished[:10] for r in kept})
    hours = sum(r.seconds for r in kept) / 3600
    return (
        f"{len(kept)} trainings, seeds {min(r.seed for r in kept)} to {max(r.seed for r in kept)}, {hours:.1f} hours "
        f"of training, {' and '.join(sorted({days[0], days[-1]}))}; commit {', '.join(commits)}; {'; '.join(machines)}."
    )


def _short(commit: str) -> str:
    known, plus, changes = commit.partition("+")
    return known[:12] + plus + changes


def page(all_: list[Reproduction]) -> str:
    """results/README.md."""
    parts = ["# Results", "", "Written by `make results` from the records in this folder. Do not edit.", ""]
    for one in all_:
        command = f"ticketlab reproduce {one.table.name}{' --quick' if one.table.quick else ''}"
        if set(one.table.datasets) != {"digits"}:  # They come with the package.
            command += " --data-dir DIR"
        parts += [f"## {one.table.name}{', quick' if one.table.quick else ''}", "", f"    {command}", ""]
        parts += [provenance(list(one.records)), "", markdown(one)]
    return "\n".join(parts)


def summary(all_: list[Reproduction]) -> str:
    """The README's table: every claim of which something was run."""
    rows = [
        "| the paper says | where | published | ours | interval | n | we saw | holds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in all_:
        protocol = "quick" if one.table.quick else "full"
        if not (one.figures.paper.figures or one.figures.reproduction.figures):
            continue  # An experiment of our own, with no published figure anywhere: docs/ speaks of it.
        for f in one.findings:
            if f.n:
                rows.append(
                    f"| {f.claim.text} | {protocol}: {f.dataset} / {f.network}, {words.percent(f.sparsity)} "
                    f"| {words.points(f.published, sign=True) or '-'} | {words.points(f.difference, sign=True)} "
                    f"| {words.interval(f.low, f.high) or '-'} | {f.n} | {f.verdict} "
                    f"| {'open' if f.holds is None else 'yes' if f.holds else 'NO'} |"
                )
    return "\n".join(rows)


def written(readme: str, all_: list[Reproduction]) -> str:
    """The README with its table brought up to date."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{summary(all_)}\n{END}{after}"


def main() -> int:
    """Write both; with --check, say whether they are up to date."""
    all_ = found()
    wanted = {HERE / "README.md": page(all_), README: written(README.read_text(encoding="utf-8"), all_)}
    if "--check" in sys.argv[1:]:
        old = [str(path) for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
        print(f"not up to date: {', '.join(old)}; run `make results`" if old else "up to date")
        return bool(old)
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
