"""Stores, archives and files that carry code, or name some: it is never imported, unpickled or run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ticketlab.cli import main
from ticketlab.data.unpickle import unpickle
from ticketlab.engine import checkpoint
from ticketlab.errors import InputError
from ticketlab.experiment.archive import unpacked
from ticketlab.experiment.merge import import_store
from ticketlab.experiment.store import Store, written
from ticketlab.experiment.upkeep import sweep, verify
from ticketlab.mask import Mask
from ticketlab.models.weights import with_weights
from ticketlab.reproduce import records
from ticketlab.ticket_file import load_ticket

from . import stores, zip_files
from .tables import a_record

NAMES = [
    "fuzz_sentinel:run",
    "versus:fuzz_sentinel:run",
    "snip,budget=ratios:fuzz_sentinel:run",
    "fuzz_sentinel:run+sampled",
]


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is there once anything ran: a module that makes it lies where modules are looked for."""
    place = tmp_path / "code"
    place.mkdir()
    (place / "fuzz_sentinel.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n\ndef run(model, batches, loss): ...\n"
    )
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    yield tmp_path / "ran"
    # Out again, so that only the test that let it in fails.
    assert sys.modules.pop("fuzz_sentinel", None) is None and not (tmp_path / "ran").exists()


def test_the_sentinel_would_be_seen(tmp_path: Path) -> None:
    """In a process of its own: nothing here may import it."""
    (tmp_path / "fuzz_sentinel.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nrun = lambda model, batches, loss: {{}}\n"
    )
    code = "from ticketlab.spec import resolve; resolve('fuzz_sentinel:run')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "ran").exists()


def evil(folder: Path) -> bytes:
    return pickle.dumps({"state": Runs(folder)})


def tree(ran: Path, name: str) -> dict[str, bytes]:
    """A store whose records name code wherever they name anything, with pickles beside them."""
    found = {}
    for path, content in stores._tree().items():
        if path.endswith("result.json"):
            record = json.loads(content)
            del record["checksum"]
            record["params"] = {"method": name, "model": name, "check": name, "seed": 1}
            record["label"], record["facts"] = name, {"method": name, "facts": {}}
            content = written(record)
            found[path.replace("result.json", "model.pth")] = evil(ran)
        elif path.startswith("records/"):
            content = json.dumps(
                {**a_record(), "method": name, "check": name, "model": {**a_record()["model"], "name": name}}
            ).encode()
        found[path] = content
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_store_that_names_code(ran: Path, tmp_path: Path, name: str) -> None:
    stores._write_tree(tree(ran, name), tmp_path)
    verify(Store(tmp_path / "from" / "store"))
    import_store(tmp_path / "from", tmp_path / "into")
    stores._read_all(Store(tmp_path / "from" / "store"))
    sweep(Store(tmp_path / "into" / "store"))
    for command in (["ls"], ["verify"], ["export", "--to", str(tmp_path / "out.zip")]):
        main(["store", command[0], str(tmp_path / "into"), *command[1:]])


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_that_names_code(ran: Path, tmp_path: Path, name: str) -> None:
    files = {n: c for n, c in stores._exported(tree(ran, name)).items() if not n.endswith(".pth")}
    # A record is compared with the table by one thing after the other.
    for seed, changes in enumerate(({"check": name}, {"method": f"{a_record()['method']},budget=ratios:{name}"}), 1):
        files[f"records/{seed}.json"] = json.dumps({**a_record(), "seed": seed, **changes}).encode()
    (tmp_path / "x.zip").write_bytes(zip_files.packed([zip_files.Entry(n.encode(), c) for n, c in files.items()]))
    # Its steps are not what their names say; its records are taken.
    assert main(["store", "import", str(tmp_path / "x.zip"), "--into", str(tmp_path / "into")]) in (0, 1)
    assert len(records.read(tmp_path / "into", a_record()["table"], "quick")) == 3
    # What came with it is shown beside the table.
    main(["reproduce", a_record()["table"], "--quick", "--show", "--out", str(tmp_path / "into")])


def test_an_archive_that_carries_code(ran: Path, tmp_path: Path) -> None:
    for extra in ("model.pth", "fuzz_sentinel.py", "x.pkl", "conftest.py"):
        inside = next(n for n in stores._tree() if n.endswith("result.json")).rpartition("/")[0]
        for name in (f"{inside}/{extra}", extra, f"records/{extra}"):
            files = {**stores._exported(stores._tree()), name: evil(ran)}
            (tmp_path / "x.zip").write_bytes(
                zip_files.packed([zip_files.Entry(n.encode(), c) for n, c in files.items()])
            )
            with pytest.raises(InputError, match="an entry that no export writes"), unpacked(tmp_path / "x.zip"):
                pass


def test_pickles_in_place_of_tensors(ran: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    torch.save({"weight": Runs(ran)}, tmp_path / "x.pth")
    for content in (evil(ran), (tmp_path / "x.pth").read_bytes()):
        path.write_bytes(content)
        for read in (Mask.load, load_ticket, lambda p: with_weights("conv", 3, (1, 4, 4), p)):
            with pytest.raises(InputError):
                read(path)
        assert checkpoint.load("key", path) is None
        with pytest.raises(InputError, match="refused"):
            unpickle(content if content[:2] != b"PK" else evil(ran), "x")


def test_a_type_that_says_that_pointers_are_bytes(ran: Path) -> None:
    """numpy believes what a pickled type says of itself: read as objects, the bytes are addresses to go to."""
    kind = np.dtype([("a", "O")])
    _, arguments, state = kind.__reduce__()

    class Kind:
        def __reduce__(self) -> Any:
            return np.dtype, arguments, (*state[:-1], 0)

    class Array:
        def __reduce__(self) -> Any:
            frombuffer = np.zeros(1, np.uint8).__reduce_ex__(5)[0]
            return frombuffer, (b"A" * 8 * 3072, Kind(), (1, 3072), "C")

    with pytest.raises(InputError, match="no type of numbers"):
        unpickle(pickle.dumps({b"data": Array(), b"labels": [0]}), "x")
