"""Records: valid or refused, the first stays, the same bytes for the same records."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ticketlab.errors import InputError
from ticketlab.reproduce.records import Record, load, merged, one_per_seed, read, save, there, write

TABLE = "su2020/random-tickets"
VALUES: dict[str, Any] = {
    "table": TABLE,
    "protocol": "quick",
    "dataset": "cifar10",
    "network": "resnet32",
    "row": "Random (ours)",
    "sparsity": 0.9,
    "seed": 0,
    "method": "random,budget=smart",
    "check": None,
    "accuracy": 92.1,
    "best": 92.3,
    "epochs_seen": 160.0,
    "seconds": 12.5,
    "exact_sparsity": 0.9000123,
    "control": {"passed": True, "summary": "as it should be"},
    "data": {"name": "cifar10", "train": 50000, "test": 10000, "fingerprint": "ab"},
    "model": {"name": "resnet32", "identity": "cd", "prunable": 1000},
    "recipe": {"epochs": 160, "drops": [0.5, 0.75], "augment": True},
    "numerics": {"device": "cpu", "torch": "2.4"},
    "provenance": {"commit": None},
    "finished": "2025-01-31T12:00:00Z",
    "step": "0" * 32,
    "per_class": 10,
}
GPU = {"device": "cuda", "torch": "2.4"}


def record(**changes: Any) -> Record:
    return Record(**{**VALUES, **changes})


def several() -> list[Record]:
    cells = [record(sparsity=s, seed=i, step=f"{i}{s}") for s in (None, 0.5, 0.9) for i in (0, 2, 10)]
    return [*cells, record(protocol="paper"), record(table="su2020/other"), record(accuracy=None, best=None, step="d")]


def test_there_and_back(tmp_path: Path) -> None:
    for one in several():
        assert Record.from_json(json.loads(json.dumps(one.to_json())), "memory") == one
        assert json.loads(write(tmp_path, one).read_text()) == one.to_json()
    assert record().key == (TABLE, "quick", "cifar10", "resnet32", "Random (ours)", 0.9, 0, "0" * 32)
    assert record().to_json() == VALUES
    found = read(tmp_path, TABLE, "quick")
    assert len(found) == 10 and sorted(found, key=str) == sorted(
        (r for r in several() if r.table == TABLE and r.protocol == "quick"), key=str
    )
    assert [r.seed for r in found][:3] == [0, 2, 10] and found[0].sparsity is None
    assert read(tmp_path, TABLE, "paper") == [record(protocol="paper")]
    assert read(tmp_path, "none/such", "paper") == []


def test_records_that_do_not_say_how_many_images_scores_had() -> None:
    older = {key: value for key, value in VALUES.items() if key != "per_class"}
    assert Record.from_json(older, "memory") == record(per_class=None)


def test_a_damaged_record_is_written_again(tmp_path: Path) -> None:
    path = write(tmp_path, record())
    assert there(tmp_path, record().key) and not there(tmp_path, record(seed=1).key)
    for content in (b"", path.read_bytes()[:-40], json.dumps(record(seed=1).to_json()).encode()):
        path.write_bytes(content)
        assert not there(tmp_path, record().key)
        assert write(tmp_path, record(accuracy=50.0)) == path and read(tmp_path, TABLE, "quick")[0].accuracy == 50.0


def test_whole_numbers_are_numbers() -> None:
    one, other = record(sparsity=0, accuracy=90), record(sparsity=0.0, accuracy=90.0)
    assert one == other and json.dumps(one.to_json()) == json.dumps(other.to_json())
    assert type(one.seed) is int


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "0"),
        ("seed", True),
        ("seed", 1.0),
        ("seed", None),
        ("accuracy", float("nan")),
        ("accuracy", "92"),
        ("accuracy", 101),
        ("best", -1.0),
        ("sparsity", 1.5),
        ("exact_sparsity", None),
        ("epochs_seen", float("inf")),
        ("epochs_seen", 10**400),
        ("epochs_seen", -1),
        ("seconds", False),
        ("protocol", "fast"),
        ("protocol", []),
        ("method", None),
        ("check", 1),
        ("per_class", 1.5),
        ("control", True),
        ("control", {"passed": 1, "summary": ""}),
        ("control", {"passed": True}),
        ("data", {**VALUES["data"], "train": "many"}),
        ("data", {**VALUES["data"], "more": 1}),
        ("model", None),
        ("recipe", {"lr": float("nan")}),
        ("recipe", {"drops": (0.5, 0.75)}),
        ("recipe", {"deep": [{"er": {1: 2}}]}),
        ("numerics", []),
        ("provenance", {"path": Path()}),
        ("finished", "yesterday"),
        ("finished", "2025-01-31T12:00:00+02:00"),
        ("table", "../elsewhere"),
        ("table", "/su2020"),
        ("table", "su2020/../../x"),
        ("table", "su2020//x"),
        ("table", ""),
    ],
)
def test_wrong_values_are_refused(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"asked for '{key}' as .+, got "):
        record(**{key: value})
    with pytest.raises(InputError, match=rf"in some\.json: asked for '{key}' as "):
        Record.from_json({**VALUES, key: value}, "some.json")


def test_keys_are_those_of_a_record() -> None:
    with pytest.raises(InputError, match=r"in a\.json, got the unknown 'more'"):
        Record.from_json({**VALUES, "more": 1}, "a.json")
    with pytest.raises(InputError, match=r"in a\.json, got no 'seed'"):
        Record.from_json({k: v for k, v in VALUES.items() if k != "seed"}, "a.json")
    with pytest.raises(InputError, match="got no object"):
        Record.from_json([VALUES], "a.json")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deep"):
        Record.from_json({**VALUES, "recipe": {"deep": deep}}, "a.json")


def test_the_first_record_stays(tmp_path: Path) -> None:
    path = write(tmp_path, record())
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert write(tmp_path, record(accuracy=1.0)) == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert (
        path.relative_to(tmp_path).as_posix().startswith("records/su2020/random-tickets/cifar10-resnet32-Random-ours")
    )
    assert list(tmp_path.rglob("*.json*")) == [path]


def test_names_of_files_hold_no_path(tmp_path: Path) -> None:
    path = write(tmp_path, record(dataset="../../x", row="ü" * 300, network="a/b"))
    assert path.parent == tmp_path / "records" / "su2020" / "random-tickets" and len(path.name) < 200
    assert read(tmp_path, TABLE, "quick")[0].dataset == "../../x"


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"[" * 100_000, b'{"table": NaN}', b"1"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, record())
    write(tmp_path, record(seed=1))
    path.write_bytes(content)
    with pytest.raises(InputError, match=path.name):
        read(tmp_path, TABLE, "quick")


def test_a_file_in_another_tables_folder_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, record())
    moved = path.with_name("moved.json")
    moved.write_text(json.dumps(record(table="other").to_json()))
    with pytest.raises(InputError, match=r"moved\.json, got one of 'other'"):
        read(tmp_path, TABLE, "quick")


def test_lines_are_the_same_whatever_the_order(tmp_path: Path) -> None:
    records = several()
    save(tmp_path / "a.jsonl", records)
    random.Random(0).shuffle(records)
    save(tmp_path / "deep" / "b.jsonl", records)
    content = (tmp_path / "a.jsonl").read_bytes()
    assert content == (tmp_path / "deep" / "b.jsonl").read_bytes() and content.count(b"\n") == len(records)
    found = load(tmp_path / "a.jsonl")
    assert merged(found, records) == found and len(found) == len(records)
    save(tmp_path / "c.jsonl", found)
    assert (tmp_path / "c.jsonl").read_bytes() == content
    save(tmp_path / "none.jsonl", [])
    assert load(tmp_path / "none.jsonl") == []


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    save(path, several())
    lines = path.read_text().splitlines()
    for broken, why in ((lines[2][:-9], "no JSON"), ("", "no JSON"), (lines[2].replace('"seed"', '"sed"'), "'seed'")):
        path.write_text("\n".join([*lines[:2], broken, *lines[3:]]))
        with pytest.raises(InputError, match=rf"a\.jsonl, line 3.*{why}"):
            load(path)
    with pytest.raises(InputError, match="No such file"):
        load(tmp_path / "none.jsonl")


def test_the_first_of_several_lists_wins() -> None:
    one, other = record(accuracy=90.0), record(accuracy=91.0)
    assert merged([one], [other]) == [one] and merged([other], [one]) == [other]
    assert merged([one], [record(seed=1)]) == [one, record(seed=1)]
    assert merged() == []


def test_one_record_per_seed_of_the_numerics_that_most_have() -> None:
    cpu = [record(seed=seed, step=f"c{seed}") for seed in (0, 1)]
    gpu = [record(seed=seed, step=f"g{seed}", numerics=GPU) for seed in (0, 1, 2)]
    assert one_per_seed([*cpu, *gpu]) == gpu
    # Another cell adds to the table's count; a seed that only the rarer numerics have is kept.
    more = [record(row="other", seed=seed, step=f"o{seed}") for seed in (0, 1)]
    assert one_per_seed([*gpu, *cpu, *more]) == merged(cpu, gpu[2:], more)
    # Another table does not count.
    elsewhere = [replace(r, table="other") for r in (*cpu, *more)]
    assert one_per_seed([*gpu, *cpu, *elsewhere]) == merged(gpu, elsewhere)


def test_ties_do_not_depend_on_the_order() -> None:
    both = [record(step="c"), record(step="g", numerics=GPU), record(step="h", numerics=GPU, row="b"), record(row="b")]
    assert one_per_seed(both) == one_per_seed(both[::-1]) == merged([both[0], both[3]])
