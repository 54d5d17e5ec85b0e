"""The file system under a store: folders that appear whole or not at all, and small files, by names with slashes.

A local (or network) folder holds them as folders and files. Anything that fsspec opens (s3://, gs://, memory://) has no
atomic rename, so there a folder is one object, an uncompressed zip that a single write puts in place.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ticketlab.errors import InputError

# What a writer that was killed leaves: never read, and removed by gc.
UNFINISHED = ".new-"


class DamagedFile(OSError):
    """What is there cannot be what was written."""


class Files(Protocol):
    """What a store needs of a file system. Names are relative, with slashes. Missing things raise FileNotFoundError."""

    place: str

    def put_folder(self, name: str, files: Mapping[str, bytes]) -> bool:
        """Make a folder of files, whole or not at all. False if one is there, which stays."""

    def get(self, folder: str, file: str) -> bytes:
        """A file of a folder."""

    def names(self, folder: str) -> list[str]:
        """The files of a folder."""

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of all folders two levels below a prefix, in order; hidden ones are left out."""

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder, whatever is in it."""

    def move_folder(self, name: str, to: str) -> None:
        """Give a folder another name."""

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, whole or not at all."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file unless it is there; False if it is. It may be lost in a crash of the machine."""

    def read(self, name: str) -> bytes:
        """A small file."""

    def files(self, prefix: str) -> Iterator[str]:
        """The names of the small files right below a prefix, in order; hidden ones are left out."""

    def remove(self, name: str) -> None:
        """Remove a small file."""


class LocalFiles:
    """A folder of this machine, or of one that is mounted here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root)

    def put_folder(self, name: str, files: Mapping[str, bytes]) -> bool:
        """Fill a folder under another name, then rename it: the first writer wins."""
        final = self.root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=UNFINISHED))
        try:
            for file, content in files.items():
                _write_through(scratch / file, content)
            # Temporary folders are for their owner only; a store may be shared.
            scratch.chmod(0o777 & ~_umask())
            if final.exists():
                return False
            os.rename(scratch, final)
            return True
        except OSError:
            # A folder with something in it is never replaced by a rename.
            if not final.exists():
                raise
            return False
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def get(self, folder: str, file: str) -> bytes:
        """A file of a folder."""
        return (self.root / folder / file).read_bytes()

    def names(self, folder: str) -> list[str]:
        """The files of a folder."""
        return sorted(entry.name for entry in (self.root / folder).iterdir())

    def folders(self, prefix: str) -> Iterator[str]:
        """Walked one shelf after the other: a store may hold millions."""
        for shelf in sorted(_entries(self.root / prefix)):
            for name in sorted(_entries(self.root / prefix / shelf)):
                yield f"{prefix}/{shelf}/{name}"

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder."""
        return (self.root / name).exists()

    def move_folder(self, name: str, to: str) -> None:
        """Give a folder another name."""
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).rename(self.root / to)

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it."""
        shutil.rmtree(self.root / name)

    def write(self, name: str, content: bytes) -> None:
        """Write next to the target, then rename."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """Written under another name and then linked: nobody reads half of it, and one of two writers wins."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(content)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:
                # A file system without hard links.
                with path.open("xb") as file:
                    file.write(content)
            return True
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """A small file."""
        return (self.root / name).read_bytes()

    def files(self, prefix: str) -> Iterator[str]:
        """The names of the small files right below a prefix."""
        for name in sorted(_entries(self.root / prefix)):
            yield f"{prefix}/{name}"

    def remove(self, name: str) -> None:
        """Remove a small file."""
        (self.root / name).unlink()


class RemoteFiles:
    """A place that fsspec opens. ``root`` is its URL."""

    def __init__(self, root: str) -> None:
        import fsspec

        self.place = root.rstrip("/")
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.place)
        except (ImportError, ValueError) as error:
            raise InputError(f"asked for the store {root}, got no file system for it: {error}.") from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _object(self, folder: str) -> str:
        return f"{self._path(folder)}.zip"

    def put_folder(self, name: str, files: Mapping[str, bytes]) -> bool:
        """One object, written at once. Of two writers of a pure result, either may stay."""
        if self.has_folder(name):
            return False
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file, content in files.items():
                # With the same time always: equal contents are equal objects.
                archive.writestr(zipfile.ZipInfo(file), content)
        self._put(self._object(name), packed.getvalue())
        return True

    def _put(self, path: str, content: bytes) -> None:
        # Nothing to do where folders are no more than names.
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(path, content)

    @contextmanager
    def _archive(self, folder: str) -> Iterator[zipfile.ZipFile]:
        """The object as an archive: of a large one only the parts that are asked for are fetched."""
        with self._fs.open(self._object(folder), "rb") as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    yield archive
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
                raise DamagedFile(f"{folder} is damaged: {error}") from error

    def get(self, folder: str, file: str) -> bytes:
        """A file of a folder."""
        with self._archive(folder) as archive:
            try:
                return archive.read(file)
            except KeyError as error:
                raise FileNotFoundError(file) from error

    def names(self, folder: str) -> list[str]:
        """The files of a folder."""
        with self._archive(folder) as archive:
            return sorted(archive.namelist())

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of all folders two levels below a prefix."""
        for name in self._listed(prefix):
            if name.endswith(".zip") and name.count("/") == prefix.count("/") + 2:
                yield name.removesuffix(".zip")

    def _listed(self, prefix: str) -> list[str]:
        """All objects below a prefix, by their names here, in order; hidden ones are left out."""
        # Others write too: what was listed before may be old.
        self._fs.invalidate_cache()
        start = len(self._root.rstrip("/")) + 1
        with suppress(FileNotFoundError):
            names = sorted(str(path)[start:] for path in self._fs.find(self._path(prefix)))
            return [name for name in names if not name.rpartition("/")[2].startswith(".")]
        return []

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder."""
        return bool(self._fs.exists(self._object(name)))

    def move_folder(self, name: str, to: str) -> None:
        """Copied and removed: in between both are there."""
        content = self._fs.cat_file(self._object(name))
        self._put(self._object(to), content)
        self._fs.rm_file(self._object(name))

    def remove_folder(self, name: str) -> None:
        """Remove a folder with all that is in it."""
        self._fs.rm_file(self._object(name))

    def write(self, name: str, content: bytes) -> None:
        """One object, written at once."""
        self._put(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Looked for and then written: two writers at the same moment may both have won."""
        if self._fs.exists(self._path(name)):
            return False
        self._put(self._path(name), content)
        return True

    def read(self, name: str) -> bytes:
        """A small file."""
        return bytes(self._fs.cat_file(self._path(name)))

    def files(self, prefix: str) -> Iterator[str]:
        """The names of the small files right below a prefix."""
        for name in self._listed(prefix):
            if name.count("/") == prefix.count("/") + 1:
                yield name

    def remove(self, name: str) -> None:
        """Remove a small file."""
        self._fs.rm_file(self._path(name))


def open_files(place: str | Path) -> Files:
    """The files at a folder, or at a URL that fsspec knows (s3://bucket/folder; needs its own package, s3fs).

    Raises:
        InputError: no file system is known for the URL.
    """
    return RemoteFiles(str(place)) if "://" in str(place) else LocalFiles(Path(place))


def _entries(folder: Path) -> list[str]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return []


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    """The process's mask for new files; the system tells it only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
