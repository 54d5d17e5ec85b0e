"""A store as one portable file: a zip whose entries are not compressed, and that is believed in nothing."""

from __future__ import annotations

import os
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ticketlab.errors import InputError
from ticketlab.experiment.store import CONTENTS, MASK, RESULT, TENSORS, Store, path_of
from ticketlab.packing import write_atomically

FORMAT = "ticketlab-store-1"
_FORMAT_FILE = "format"
_FILES = "|".join(re.escape(name) for name in (RESULT, MASK, TENSORS))
_STEP = rf"store/steps/(?P<shelf>[0-9a-f]{{2}})/(?P=shelf)[0-9a-f]{{30}}/({_FILES})"
# Deep enough for any table's name: a short name of a thousand folders would fill a disk.
_OTHERS = r"store/contents/[0-9a-f]{32}|records/([A-Za-z0-9][\w.-]{0,99}/){0,8}[A-Za-z0-9][\w.-]{0,199}\.json"
_ALLOWED = re.compile(rf"({_STEP}|{_OTHERS}|{_FORMAT_FILE})", re.ASCII)


def export(store: Store, path: Path, records: Path | None = None, only: Iterable[str] | None = None) -> int:
    """Write a store's finished steps (or ``only`` some, with what they share) and a folder of records to one file.

    Returns:
        The number of steps.

    Raises:
        InputError: the file cannot be written, or a step is not finished.
    """
    chosen = list(store.ids()) if only is None else list(only)
    try:
        chosen += [origin for i in chosen if (origin := store.linked(i))]
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, _FORMAT_FILE, FORMAT.encode())
            written = set()
            for step_id in dict.fromkeys(chosen):
                folder = path_of(step_id)
                for name in (*store.record(step_id)["files"], RESULT):
                    _add(archive, f"store/{folder}/{name}", store.files.get(folder, name))
                written.add(step_id)
            for name in store.files.files(CONTENTS):
                content = store.files.read(name)
                if content.decode(errors="replace") in written:
                    _add(archive, f"store/{name}", content)
            if records is not None:
                for file in sorted(records.rglob("[!.]*.json")):
                    _add(archive, f"records/{file.relative_to(records).as_posix()}", file.read_bytes())
    except KeyError as error:
        raise InputError(f"asked to export step {error.args[0]}, got none that is finished.") from error
    except OSError as error:
        raise InputError(f"asked to write {path}, got {error.strerror or error}.") from error
    return len(written)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    # With the same time always: equal stores are equal archives.
    archive.writestr(zipfile.ZipInfo(name), content)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, which takes its place at the end."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def is_archive(path: Path) -> bool:
    """Whether a file could be an archive: a folder is none."""
    return path.is_file()


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The archive in a temporary folder, laid out as a study's: with a ``store``, and perhaps ``records``.

    Nothing that it says is believed: entries have one of the names that an export gives, once each, are files, are not
    compressed (so that no small file becomes a large one), and are as long as they say.

    Raises:
        InputError: it is no archive, is damaged, or holds anything else.
    """
    asked = f"asked for an archive of a store in {path}, got"
    with tempfile.TemporaryDirectory(prefix="ticketlab-import-") as scratch:
        folder = Path(scratch)
        try:
            with zipfile.ZipFile(path) as archive:
                _check(archive, path, asked)
                for entry in archive.infolist():
                    write_atomically(folder / entry.filename, archive.read(entry))
            if (folder / _FORMAT_FILE).read_bytes() != FORMAT.encode():
                raise InputError(f"{asked} another format.")
        except InputError:
            raise
        # RuntimeError: also what is encrypted, of a kind that zipfile does not know, or nested too deep.
        except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, OverflowError, EOFError, struct.error) as error:
            raise InputError(f"{asked} a file that cannot be read: {error!s:.200}.") from error
        (folder / "store").mkdir(exist_ok=True)
        yield folder


def _check(archive: zipfile.ZipFile, path: Path, asked: str) -> None:
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) != len(entries):
        raise InputError(f"{asked} one with an entry twice.")
    for entry in entries:
        kind = entry.external_attr >> 28
        if not _ALLOWED.fullmatch(entry.filename) or entry.is_dir() or kind not in (0, 8):
            raise InputError(f"{asked} an entry that no export writes: {entry.filename[:80]!r}.")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise InputError(f"{asked} an entry that is compressed or encrypted: {entry.filename[:80]!r}.")
    if _FORMAT_FILE not in archive.namelist():
        raise InputError(f"{asked} a zip of something else.")
    # Entries may overlap in the file, and so be more together than it is.
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if total > size:
        raise InputError(f"{asked} entries of {total} bytes in a file of {size}.")
    if total > free:
        raise InputError(f"{asked} {total} bytes, with {free} free to unpack them to.")
