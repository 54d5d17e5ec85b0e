"""`make bench`: every benchmark, one table, the targets beside what was measured.

A missed target is a finding and no failure: the exit code is 1 only if a benchmark broke.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def main() -> int:
    """Run every file of benchmarks/ and print what all of them found."""
    rows: list[Row] = []
    broken = []
    for file in sorted(Path(__file__).parents[1].glob("*.py")):
        print(f"{file.stem} ...", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, str(file), "--json"], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            broken.append(file.name)
        else:
            rows += json.loads(done.stdout)
    render(rows)
    for name in broken:
        print(f"{name} broke: see above", file=sys.stderr)
    return 1 if broken else 0


def render(rows: list[Row]) -> None:
    """The table; above it each machine that a row names in full, below it what one must know to judge a ratio."""
    console = Console()
    machines = [row["machine"] for row in rows if isinstance(row.get("machine"), dict)]
    for facts in {json.dumps(m): m for m in machines}.values():
        console.print(sentence(facts), highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("work", "target", "measured", "possible", "n", ""):
        table.add_column(name, justify="left" if name in ("work", "") else "right", no_wrap=True)
    for row in rows:
        unit = f" {row['unit']}" if "unit" in row else "x"
        word, goal = ("<=" if row.get("better") == "lower" else ">="), row.get("at_least")
        target = "-" if goal is None else f"{word} {goal}{unit}"
        ceiling = f"{row['ceiling']}x" if row.get("ceiling") else ""
        table.add_row(row["work"], target, f"{row['ratio']}{unit}", ceiling, str(row["n"]), verdict(row))
    console.print(table)
    for row in rows:
        if said := remarks(row):
            console.print(f"{row['work']}: {said}", highlight=False, markup=False)


def verdict(row: Row) -> str:
    """Whether every target of the row is met; empty where it has none."""
    if "not valid" in row.get("note", ""):
        return "not valid"
    met = [row[name] <= row[f"{name}_at_most"] for name in limited(row)]
    if (goal := row.get("at_least")) is not None:
        met.append(row["ratio"] <= goal if row.get("better") == "lower" else row["ratio"] >= goal)
    return ("met" if all(met) else "NOT met") if met else ""


def limited(row: Row) -> list[str]:
    """The row's other figures that have a limit: those beside which `..._at_most` stands."""
    return [name.removesuffix("_at_most") for name in row if name.endswith("_at_most")]


def remarks(row: Row) -> str:
    """The row's other figures, in words."""
    said = [f"{name} {row[name]} (at most {row[f'{name}_at_most']})" for name in limited(row)]
    if "engine" in row:
        said.append(row["engine"])
    if "baseline_images_s" in row:
        said.append(f"{row['engine_images_s']:,.0f} against {row['baseline_images_s']:,.0f} images/s")
        said.append(f"baseline at {row['baseline_share_of_peak']:.0%} of the fp32 peak")
    return "; ".join([*said, *([row["note"]] if "note" in row else [])])


def sentence(facts: dict[str, Any]) -> str:
    """A machine on one line."""
    chips = f"{facts['cpu']}, {facts['cores']} cores" + (f", {facts['gpu']}" if facts["gpu"] else "")
    state = "quiet" if facts["quiet"] else "NOT quiet"
    return f"{chips}; {facts['instructions']}; torch {facts['torch']}; {state} at the start (load {facts['load']})"


if __name__ == "__main__":
    sys.exit(main())
