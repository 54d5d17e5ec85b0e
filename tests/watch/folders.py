"""What tests of the looking share: a finished study to take steps away from, and claims as runs make them."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from ticketlab.experiment.prepared import Prepared
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store, path_of


def copied(study: Prepared, to: Path) -> Path:
    """The study's folder with all of its steps, elsewhere."""
    shutil.copytree(study.folder, to)
    return to


def without(folder: Path, *steps: Step) -> None:
    """As if these had not run yet."""
    (folder / "results.json").unlink(missing_ok=True)
    for step in steps:
        shutil.rmtree(folder / "store" / path_of(step.id))


def trainings(study: Prepared) -> list[Step]:
    """The steps that train, in the plan's order."""
    return [step for step in study.plan.steps.values() if step.kind == "train"]


def claim(store: Store, step: Step, age: float = 1.0, silent: float = 0.0, owner: str = "run", **progress: Any) -> None:
    """A run computes a step since ``age`` seconds and gave its last sign of life ``silent`` seconds ago."""
    now = time.time()
    content = {
        "step": step.id,
        "label": step.label,
        "kind": step.kind,
        "owner": owner,
        "began": now - age - silent,
        "beat": now - silent,
        "progress": progress or None,
    }
    store.files.write(f"claims/{step.id}", json.dumps(content).encode())


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with its contents and when it was changed."""
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}
