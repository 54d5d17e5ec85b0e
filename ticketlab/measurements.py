"""What was measured here, kept in the user's cache folder: the next run need not measure, and chooses alike."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ticketlab.data import cache
from ticketlab.errors import InputError
from ticketlab.packing import write_atomically


def place(folder: str, facts: object, prefix: str = "") -> Path:
    """The file of what was measured under these facts; whatever may change the measurement belongs to them."""
    return cache.folder() / folder / f"{prefix}{hashlib.sha256(repr(facts).encode()).hexdigest()[:24]}.json"


def recalled(file: Path) -> Any:
    """Plain values as they were kept, or None. Anybody may have changed the file: they are for the caller to check."""
    # Brackets in brackets in brackets are a RecursionError.
    with suppress(OSError, ValueError, RecursionError):
        return json.loads(file.read_text())
    return None


def keep(file: Path, found: Any) -> None:
    """Keep plain values. A folder that cannot be written costs another measurement, nothing else."""
    with suppress(InputError, OSError):
        write_atomically(file, json.dumps(found, indent=1).encode())
