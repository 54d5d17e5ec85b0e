"""The kept results: every file is of a shipped table as it is now, and the pages made from them are up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ticketlab.reproduce import records, table
from ticketlab.reproduce.protocol import sift

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "results").rglob("*.jsonl"))


def test_there_are_results() -> None:
    assert len(FILES) >= 3


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_results_are_of_a_table_as_it_is(path: Path) -> None:
    name, protocol, _ = path.relative_to(ROOT / "results").as_posix().rsplit(".", 2)
    kept = records.load(path)
    assert kept and {(r.table, r.protocol) for r in kept} == {(name, protocol)}
    found = sift(table.load(name, protocol == "quick"), kept)
    assert not found.left_out, "records that no longer belong to the table"
    for record in kept:
        assert record.control is None or record.control["passed"]
        commit = str(record.provenance["commit"])
        assert len(commit) == 40, f"a result of no commit: {commit}"
        assert record.seconds > 0 and record.provenance["machine"] and record.numerics["torch"]


def test_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "results" / "generate.py")
    assert spec and spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    found = generate.found()
    assert (ROOT / "results" / "README.md").read_text(encoding="utf-8") == generate.page(found), "run `make results`"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == generate.written(readme, found), "run `make results`"
