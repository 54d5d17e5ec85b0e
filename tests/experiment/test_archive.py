"""Archives: what goes out comes back bit-equal, and nothing that an archive says is believed."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ticketlab.errors import InputError
from ticketlab.experiment.archive import export, unpacked
from ticketlab.experiment.merge import import_store
from ticketlab.experiment.store import Store
from ticketlab.experiment.upkeep import verify

STEP = "store/steps/ab/ab" + "0" * 30


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny.prepared(folder, ["snip"], checks=["rearrange"]).run()
    return folder


@pytest.fixture(scope="module")
def whole(study: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("archive") / "a.zip"
    export(Store(study / "store"), path)
    return path.read_bytes()


def test_out_and_in_again(study: Path, tmp_path: Path) -> None:
    store = Store(study / "store")
    assert export(store, tmp_path / "deep" / "a.zip") == len(list(store.ids()))
    with unpacked(tmp_path / "deep" / "a.zip") as folder:
        imported = import_store(folder, tmp_path / "b")
    assert sorted(imported.new) == sorted(store.ids()) and not imported.damaged
    assert not verify(Store(tmp_path / "b" / "store")).findings
    progress = tiny.Counter()
    tiny.prepared(tmp_path / "b", ["snip"], checks=["rearrange"]).run(1, progress)
    assert not progress.computed and not progress.linked
    export(store, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "deep" / "a.zip").read_bytes()


def test_only_some_steps_with_what_they_share(study: Path, tmp_path: Path) -> None:
    store = Store(study / "store")
    step = next(store.ids())
    assert export(store, tmp_path / "a.zip", only=[step]) == 1
    with pytest.raises(InputError, match="none that is finished"):
        export(store, tmp_path / "b.zip", only=["0" * 32])
    assert not (tmp_path / "b.zip").exists() and [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def made(path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("format", "ticketlab-store-1")
        for name, content in entries:
            archive.writestr(name, content)
    return path


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "/tmp/escaped",
        "store/../../escaped",
        "store/steps/ab/../../../../escaped/result.json",
        STEP + "/../../x/result.json",
        STEP + "/other.bin",
        STEP + "/result.json/x",
        "store/steps/aa/ab" + "0" * 30 + "/result.json",
        "store/contents/../x",
        "records/../../x.json",
        "records/.hidden.json",
        "C:\\x",
        "store\\steps\\x",
        "store/contents/" + "0" * 32 + "\n",
        "anything",
    ],
)
def test_entries_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "a.zip", [(name, b"x")])
    with pytest.raises(InputError, match="an entry that no export writes"), unpacked(path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_links_and_folders(tmp_path: Path) -> None:
    for entry in (link(f"{STEP}/result.json"), zipfile.ZipInfo(f"{STEP}/")):
        path = made(tmp_path / "a.zip", [(entry, b"/etc/passwd")])
        with pytest.raises(InputError, match="an entry that no export writes"), unpacked(path):
            pass


def test_bombs(tmp_path: Path) -> None:
    path = made(tmp_path / "a.zip", [(f"{STEP}/result.json", bytes(10_000_000))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="compressed"), unpacked(path):
        pass


def test_twice(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = made(tmp_path / "a.zip", [(f"{STEP}/result.json", b"a"), (f"{STEP}/result.json", b"b")])
    with pytest.raises(InputError, match="twice"), unpacked(path):
        pass


def test_overlapping_entries(tmp_path: Path) -> None:
    """Every entry of the directory pointing to the same bytes: more together than the file is long."""
    path = made(tmp_path / "a.zip", [(f"store/contents/{i:032x}", bytes(4000)) for i in range(20)])
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first = archive.infolist()[1]
        at = raw.index(b"PK\x01\x02")
        while raw[at : at + 4] == b"PK\x01\x02":
            raw[at + 42 : at + 46] = first.header_offset.to_bytes(4, "little")
            at += 46 + int.from_bytes(raw[at + 28 : at + 30], "little")
    # All but the first entry's data are cut out, and the directory moves up.
    path.write_bytes(raw)
    with pytest.raises(InputError), unpacked(path):
        pass


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"no zip at all" * 10, b"PK\x05\x06" + bytes(18)],
    ids=["empty", "short", "text", "no entry"],
)
def test_files_that_are_no_archives(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match="asked for an archive of a store"), unpacked(tmp_path / "a.zip"):
        pass


def test_another_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("format", "something-else")
    with pytest.raises(InputError, match="another format"), unpacked(tmp_path / "a.zip"):
        pass


def changed(content: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    raw = bytearray(content)
    for at, value in edits:
        raw[at % len(raw)] = value
    return bytes(raw[: len(raw) - cut % len(raw)]) if cut else bytes(raw)


def _import_of(content: bytes, folder: Path) -> None:
    """Either a clear error, or an import after which the store is whole."""
    path = folder / "a.zip"
    path.write_bytes(content)
    try:
        with unpacked(path) as found:
            import_store(found, folder / "into")
    except InputError:
        return
    assert not verify(Store(folder / "into" / "store")).findings


edits = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), max_size=4)


@given(edits=edits, cut=st.sampled_from([0, 0, 0, 1, 7, 100, 5000]), near_end=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_archives_are_refused_or_leave_a_whole_store(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int]], cut: int, near_end: bool
) -> None:
    moved = [(len(whole) - 1 - at % 3000, v) for at, v in edits] if near_end else edits
    _import_of(changed(whole, moved, cut), tmp_path_factory.mktemp("fuzz"))


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_random_bytes(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zip"
        path.write_bytes(b"PK\x03\x04" + content)
        with pytest.raises(InputError), unpacked(path):
            pass
