"""All readers."""

from __future__ import annotations

from . import compact_files, datasets, stores, tables, tickets
from .reader import Reader

_ALL = (*tickets.READERS, *compact_files.READERS, *stores.READERS, *tables.READERS, *datasets.READERS)
READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL}
