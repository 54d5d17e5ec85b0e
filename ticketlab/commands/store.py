"""``ticketlab store import``: bring the results of several machines into one folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.experiment.merge import Imported, check_import, import_store


def run_store(options: argparse.Namespace) -> int:
    """Import each source in turn; 1 if anything was damaged or differs, else 0.

    Raises:
        InputError: a source cannot be imported, before anything is copied.
    """
    if options.action != "import":
        raise InputError(f"asked to {options.action} a store, got no such action. Known: import.")
    into = Path(options.into)
    sources = [Path(source) for source in options.sources]
    for source in sources:
        check_import(source, into)
    clean = True
    for source in sources:
        imported = import_store(source, into)
        print(_told(source, imported))
        clean = clean and not (imported.damaged or imported.differing)
    return 0 if clean else 1


def _told(source: Path, imported: Imported) -> str:
    """A line with the counts, and one for each thing that a person should look at."""
    parts = ("new", "known", "damaged", "differing")
    counts = ", ".join(f"{len(getattr(imported, part))} {part}" for part in parts)
    shown = [f"  {part}: {name}" for part in parts[2:] for name in getattr(imported, part)]
    return "\n".join([f"from {source}: {counts}; {imported.records} records", *shown])
