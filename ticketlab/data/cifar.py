"""The official CIFAR files: the python pickles or the binary records, extracted or still in their archive."""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch

from ticketlab.data.names import DatasetInfo
from ticketlab.data.types import Split
from ticketlab.data.unpickle import unpickle
from ticketlab.errors import InputError

LOOKS_LIKE = {
    "cifar10": "cifar-10-python.tar.gz, cifar-10-binary.tar.gz, data_batch_1 or data_batch_1.bin",
    "cifar100": "cifar-100-python.tar.gz, cifar-100-binary.tar.gz, train with meta, or train.bin",
}
_LARGEST = 1 << 28  # bytes of one batch: the largest official one takes 155 MB
_TRAIN = {"cifar10": tuple(f"data_batch_{i}" for i in range(1, 6)), "cifar100": ("train",)}
_TEST = {"cifar10": "test_batch", "cifar100": "test"}


def find(folder: Path, name: str) -> tuple[Path, ...]:
    """The batch files, else the archive, in `folder`; empty if neither is there."""
    batches = (*_TRAIN[name], _TEST[name])
    for suffix in ("", ".bin"):
        present = tuple(folder / f"{batch}{suffix}" for batch in batches if (folder / f"{batch}{suffix}").is_file())
        if present:
            return present
    kind = name.replace("cifar", "cifar-")
    archives = (folder / f"{kind}-{version}.tar{end}" for version in ("python", "binary") for end in (".gz", ""))
    return tuple(path for path in archives if path.is_file())[:1]


def read(files: tuple[Path, ...], name: str, info: DatasetInfo) -> tuple[Split, Split]:
    """(train, test). Raises InputError for a missing batch and for contents that are not CIFAR's."""
    wanted = {*_TRAIN[name], _TEST[name]}
    source = files[0] if re.search(r"\.tar(\.gz)?$", files[0].name) else files[0].parent
    held = _members(source, wanted) if source.is_file() else {path.stem: _bytes(path) for path in files}
    if missing := sorted(wanted - set(held)):
        raise InputError(f"asked {source} for {', '.join(sorted(wanted))}; missing: {', '.join(missing)}")
    binary = files[0].suffix == ".bin" or "binary" in source.name
    parse = _records if binary else _pickled
    parts = {batch: parse(held.pop(batch), name, f"{source}: {batch}") for batch in sorted(held)}
    train = [parts[batch] for batch in _TRAIN[name]]
    return Split(torch.cat([x for x, _ in train]), torch.cat([y for _, y in train])), Split(*parts[_TEST[name]])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"asked for {path}, got: {error}") from error


def _members(archive: Path, wanted: set[str]) -> dict[str, bytes]:
    """The wanted batches of the archive, in memory: nothing is extracted to disk."""
    held = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                batch = Path(member.name).name.removesuffix(".bin")
                if batch not in wanted or member.isdir():
                    continue
                # Links lead elsewhere, and a small archive may hold gigabytes of zeros.
                stream = tar.extractfile(member) if member.isreg() and member.size <= _LARGEST else None
                if stream is None:
                    raise ValueError(f"{member.name!r:.80} is no file of at most {_LARGEST} bytes")
                held[batch] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError, OverflowError) as error:
        raise InputError(f"asked for the archive {archive}, got a damaged file: {error}") from error
    return held


def _pickled(content: bytes, name: str, where: str) -> tuple[torch.Tensor, torch.Tensor]:
    batch = unpickle(content, where)
    batch = (
        {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()}
        if isinstance(batch, dict)
        else {}
    )
    label = "labels" if name == "cifar10" else "fine_labels"
    try:
        pixels, labels = np.asarray(batch["data"], np.uint8), np.asarray(batch[label], np.int64)
        if pixels.shape != (len(labels), 3072):
            raise ValueError(f"{pixels.shape} pixels for {len(labels)} labels")
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"asked {where} for data and {label} of a CIFAR batch, got: {error}") from error
    return torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()), torch.from_numpy(labels)


def _records(content: bytes, name: str, where: str) -> tuple[torch.Tensor, torch.Tensor]:
    labels = 1 if name == "cifar10" else 2  # CIFAR-100 stores the coarse label first
    if len(content) % (labels + 3072):
        raise InputError(f"asked {where} for records of {labels + 3072} bytes, got {len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, labels + 3072)
    pixels = records[:, labels:].reshape(-1, 3, 32, 32).copy()
    return torch.from_numpy(pixels), torch.from_numpy(records[:, labels - 1].astype(np.int64))
