"""Where a study's or a table's steps are: in its own folder, or in a store that several share."""

from __future__ import annotations

from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.experiment.store import STEPS
from ticketlab.packing import write_atomically

OWN = "store"
# Holds the place of a shared store, so that nobody has to name it again.
POINTER = "store.txt"


def place_of(folder: Path, asked: str | Path | None = None) -> str | Path:
    """The place of the store that ``folder`` uses. Nothing is written.

    Args:
        asked: a folder or URL to use; None for the one it has used so far, or its own.

    Raises:
        InputError: it has finished steps elsewhere: they would be computed twice.
    """
    wanted = _absolute(asked) if asked is not None else None
    known = _pointed(folder)
    if known is None and (folder / OWN / STEPS).is_dir():
        known = str((folder / OWN).absolute())
    if wanted is None:
        return known if known is not None and known != str((folder / OWN).absolute()) else folder / OWN
    if known is not None and known != wanted:
        raise InputError(
            f"asked for --store {asked}, got {folder}, whose steps are in {known}. "
            "Bring them over with `ticketlab store import`, and use another --out."
        )
    return wanted


def keep_place(folder: Path, place: str | Path) -> None:
    """Write down where the steps of ``folder`` are, if that is not its own store."""
    if str(place) not in (str(folder / OWN), str((folder / OWN).absolute())) and _pointed(folder) != str(place):
        write_atomically(folder / POINTER, f"{place}\n".encode())


def _absolute(asked: str | Path) -> str:
    return str(asked).rstrip("/") if "://" in str(asked) else str(Path(asked).absolute())


def _pointed(folder: Path) -> str | None:
    try:
        return (folder / POINTER).read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"asked for the store of {folder}, got a {POINTER} that cannot be read: {error}.") from error
