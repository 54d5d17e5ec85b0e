"""``ticketlab store``: look at, check, tidy, pack and bring together the results of finished steps."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ticketlab.commands.common import check_writable
from ticketlab.errors import InputError
from ticketlab.experiment import archive, upkeep
from ticketlab.experiment.merge import Imported, check_import, import_store
from ticketlab.experiment.place import OWN, place_of
from ticketlab.experiment.store import STEPS, Store
from ticketlab.report.words import duration


def run_store(options: argparse.Namespace) -> int:
    """Do what is asked; 1 if anything was damaged or differs, else 0.

    Raises:
        InputError: there is no store, or it cannot be read or written; before anything is copied or removed.
    """
    if options.action == "import":
        return _import(options)
    store = opened(options.place)
    actions = {"ls": _list, "verify": _verify, "gc": _sweep, "export": _export}
    return actions[options.action](store, options)


def opened(place: str) -> Store:
    """The store that a folder or URL is, or that the study or table in the folder uses.

    Raises:
        InputError: there is none.
    """
    if "://" in place:
        return Store(place)
    folder = Path(place)
    if (folder / STEPS).is_dir():
        return Store(folder)
    found = Store(place_of(folder))
    if found.place == str(folder / OWN) and not (folder / OWN / STEPS).is_dir():
        raise InputError(f"asked for the store in {folder}, got no finished steps there: name the folder of a study.")
    return found


def _list(store: Store, options: argparse.Namespace) -> int:
    # Nothing is put aside by looking.
    found = [store.peek(step_id) or {"id": step_id, "kind": "damaged", "label": ""} for step_id in store.ids()]
    found = [entry for entry in found if options.kind is None or entry.get("kind") == options.kind]
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in found:
        kinds[entry["kind"]].append(entry)
        when = datetime.fromtimestamp(entry.get("finished", 0), timezone.utc).strftime("%Y-%m-%d %H:%M")
        note = " (shared)" if "linked" in entry else ""
        print(
            f"{entry['id']}  {entry['kind']:9} {when}  {duration(entry.get('seconds', 0)):>8}  {entry['label']}{note}"
        )
    for kind, entries in sorted(kinds.items()):
        print(f"{len(entries)} {kind}, {duration(sum(e.get('seconds', 0) for e in entries))}")
    return 0


def _verify(store: Store, options: argparse.Namespace) -> int:
    found = upkeep.verify(store)
    for finding in found.findings:
        print(f"{finding.name}: {finding.why}")
    print(f"{found.steps} steps, {found.bytes / 1e6:.1f} MB, {len(found.findings)} not as they were written")
    return 1 if found.findings else 0


def _sweep(store: Store, options: argparse.Namespace) -> int:
    swept = upkeep.sweep(store, options.dry_run)
    word = "would remove" if options.dry_run else "removed"
    print(
        f"{word} {len(swept.steps)} steps, {swept.entries} entries of the index and {swept.leftovers} leftovers, "
        f"{swept.bytes / 1e6:.1f} MB; kept what {swept.studies} studies and tables need"
    )
    if not swept.studies:
        print("no study has said what it needs (stores of earlier versions): every step was kept")
    return 0


def _export(store: Store, options: argparse.Namespace) -> int:
    target = Path(options.to)
    check_writable(target, "the archive", "store.zip")
    folder = Path(options.place)
    records = folder / "records"
    steps = archive.export(store, target, records if "://" not in options.place and records.is_dir() else None)
    print(f"{target}: {steps} steps, {target.stat().st_size / 1e6:.1f} MB")
    return 0


def _import(options: argparse.Namespace) -> int:
    """Import each source in turn; all are looked at before the first is copied."""
    into = Path(options.into)
    sources = [Path(source) for source in options.sources]
    for source in sources:
        if not archive.is_archive(source):
            check_import(source, into)
    clean = True
    for source in sources:
        with _folder_of(source) as folder:
            check_import(folder, into)
            imported = import_store(folder, into)
        print(_told(source, imported))
        clean = clean and not (imported.damaged or imported.differing)
    return 0 if clean else 1


@contextmanager
def _folder_of(source: Path) -> Iterator[Path]:
    if archive.is_archive(source):
        with archive.unpacked(source) as folder:
            yield folder
    else:
        yield source


def _told(source: Path, imported: Imported) -> str:
    """A line with the counts, and one for each thing that a person should look at."""
    parts = ("new", "known", "damaged", "differing")
    counts = ", ".join(f"{len(getattr(imported, part))} {part}" for part in parts)
    shown = [f"  {part}: {name}" for part in parts[2:] for name in getattr(imported, part)]
    return "\n".join([f"from {source}: {counts}; {imported.records} records", *shown])
