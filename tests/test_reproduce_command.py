"""ticketlab reproduce and ticketlab store import: a small table of the test's own, from the file to the last word."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import tiny
from commands import in_a_process, killed_after, refused, run

from ticketlab.experiment.store import Store
from ticketlab.reproduce import records
from ticketlab.reproduce.records import Record

TABLE = """
title = "A [bold]small[/oops] table"
paper = "Nobody, 2020"
about = "Tests."
datasets = ["digits"]
sparsities = [0.75, 0.5]
seeds = 3
per_class = 4

[networks]
tiny = "tiny:net"

[training]
epochs = 2
batch_size = 200
lr = 0.1
augment = false

[[rows]]
name = "smart-ratio"
method = "smart-ratio"

[[rows]]
name = "snip"
method = "snip"

[[rows]]
name = "lr-rewinding"
method = "lr-rewinding,rewind=0,epochs=100%"

[[rows]]
name = "moved"
method = "lr-rewinding,rewind=0,epochs=100%"
check = "weight-shuffle"

[[rows]]
name = "half"
method = "lr-rewinding,rewind=0,epochs=100%"
check = "half-data-su2020"

[[claims]]
text = "snip [/x] beats random"
higher = "snip"
lower = "smart-ratio"

[[claims]]
text = "moving costs"
higher = "lr-rewinding"
lower = "moved"

[quick]
note = "It shows nothing."
sparsities = [0.75]
seeds = 2
train = 60
test = 40

[quick.training]
epochs = 2
batch_size = 15
augment = false
"""
PUBLISHED = """table,dataset,network,method,sparsity,accuracy_percent,std_percent
small,digits,tiny,snip,0.75,60.5,1.2
small,digits,tiny,smart-ratio,0.75,58,0.6
small,digits,tiny,moved,0.75,58,
dense,digits,tiny,dense,0,70,0.5
"""
REPRODUCTION = """# Somebody else.
table,dataset,network,method,sparsity,accuracy_percent,std_percent
small,digits,tiny,snip,0.75,61.25,
"""
ASKED = ["reproduce", "small.toml", "--jobs", "1"]
QUICK = [*ASKED, "--quick"]
CELLS = ["digits/tiny/dense", *(f"digits/tiny/{s}/{row}" for s in ("0.75", "0.5") for row in
         ("smart-ratio", "snip", "lr-rewinding", "moved", "half"))]  # fmt: skip


def written(folder: Path) -> None:
    """The table and what others measured."""
    (folder / "small.toml").write_text(TABLE)
    (folder / "published.csv").write_text(PUBLISHED)
    (folder / "reproduction.csv").write_text(REPRODUCTION)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in a folder of its own with the table, and with the tests' modules on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(tiny.__file__).parent))
    monkeypatch.setenv("COLUMNS", "80")
    written(tmp_path)
    return tmp_path


def printed(*arguments: str) -> str:
    """What a command that succeeds prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        assert run(*arguments) == 0
    return out.getvalue()


def comparison(*arguments: str) -> dict[str, Any]:
    """The comparison as JSON, which has no NaN in it."""

    def no(name: str) -> Any:
        raise AssertionError(name)

    return json.loads(printed(*arguments, "--json"), parse_constant=no)


def of(found: dict[str, Any], cell: str) -> dict[str, Any]:
    (one,) = (c for c in found["cells"] if c["cell"] == f"digits/tiny/{cell}")
    return one


def kept(folder: str | Path = "runs/small", protocol: str = "quick") -> list[Record]:
    return records.read(Path(folder), "small", protocol)


def timeless(found: list[Record]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.to_json().items() if k not in ("seconds", "finished", "provenance")} for r in found]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the whole full table, and of two seeds of the quick one, run once; and the order of it all."""
    folder = tmp_path_factory.mktemp("finished")
    written(folder)
    order: list[tuple[str, int]] = []
    write = records.write

    def noted(where: Path, record: Record) -> Path:
        order.append((record.protocol, record.seed))
        order_of_cells.append(f"{record.sparsity}/{record.row}/{record.seed}")
        return write(where, record)

    order_of_cells: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(Path(tiny.__file__).parent))
        patch.setattr(records, "write", noted)
        printed(*ASKED)
        printed(*QUICK)
    (folder / "order.json").write_text(json.dumps([order, order_of_cells]))
    return folder


@pytest.fixture
def done(runs: Path, here: Path) -> Path:
    """A copy of the finished folder here."""
    shutil.copytree(runs / "runs", here / "runs")
    return here


@contextlib.contextmanager
def nothing_computed() -> Iterator[None]:
    def no(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("computed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "put", no)
        patch.setattr(Store, "link", no)
        yield


def test_first_the_first_seed_of_every_cell(runs: Path) -> None:
    order, cells = json.loads((runs / "order.json").read_text())
    assert order == [["paper", seed] for seed in (0, 1, 2) for _ in range(11)] + [
        ["quick", seed] for seed in (0, 1) for _ in range(6)
    ]
    rows = ("smart-ratio", "snip", "lr-rewinding", "moved", "half")
    assert cells[:11] == ["None/dense/0", *(f"{s}/{row}/0" for s in (0.75, 0.5) for row in rows)]


def test_numbers_are_those_of_the_trainings(done: Path) -> None:
    with nothing_computed():
        found = comparison(*ASKED)
    assert [c["cell"] for c in found["cells"]] == CELLS and found["protocol"] == "paper"
    for c in found["cells"]:
        _, _, *sparsity, row = c["cell"].split("/")
        mine = [
            r for r in kept(protocol="paper") if (r.row, r.sparsity) == (row, float(sparsity[0]) if sparsity else None)
        ]
        assert [r.seed for r in mine] == c["seeds"] == [0, 1, 2]
        values = [r.accuracy for r in mine if r.accuracy is not None]
        assert c["accuracies"] == values and c["mean"] == pytest.approx(mean(values))
        assert c["sd"] == pytest.approx(stdev(values))
        assert c["best_mean"] == pytest.approx(mean(r.best or 0 for r in mine)) and c["best_mean"] >= c["mean"] - 1e-9
        # The stored training itself says so.
        assert values == [(Store(done / "runs/small/store").facts(r.step) or {})["accuracy"] for r in mine]
        wanted = {"dense": 2, "smart-ratio": 2, "snip": 2}.get(row, 4)
        assert c["epochs_seen"] == wanted and all(r.epochs_seen == wanted for r in mine)
    snip = of(found, "0.75/snip")
    assert (snip["published"], snip["reproduced"]["mean"]) == ({"mean": 60.5, "sd": 1.2}, 61.25)
    assert snip["difference"] == snip["mean"] - 60.5
    assert snip["standard_errors"] == pytest.approx(snip["difference"] / math.sqrt((snip["sd"] ** 2 + 1.2**2) / 3))
    assert of(found, "0.75/moved")["standard_errors"] is None and of(found, "0.5/snip")["published"] is None
    assert {r.exact_sparsity for r in kept(protocol="paper") if r.row == "snip"} == {0.75, 0.5}
    assert all((r.control is None) == (r.check is None) for r in kept(protocol="paper"))
    assert [(c["claim"]["text"], c["sparsity"], c["n"]) for c in found["claims"]] == [
        (text, s, 3) for s in (0.75, 0.5) for text in ("snip [/x] beats random", "moving costs")
    ]


def test_a_cell_is_the_ticket_that_train_makes(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", "--data", "digits", "--model", "tiny:net", "--epochs", "2", "--batch-size", "200"]
    asked += ["--per-class", "4", "--out", "t.safetensors", "--json"]
    for method, row in (("snip", "snip"), ("lr-rewinding,rewind=0,epochs=100%", "lr-rewinding")):
        facts = json.loads(printed(*asked, "--method", method, "--sparsity", "0.5", "--seed", "1"))
        (mine,) = (r for r in kept(protocol="paper") if (r.row, r.sparsity, r.seed) == (row, 0.5, 1))
        assert facts["accuracy"] == mine.accuracy


def test_in_words(done: Path) -> None:
    with nothing_computed():
        text, quick = printed(*ASKED), printed(*QUICK)
    assert "A [bold]small[/oops] table (small)" in text and "snip [/x] beats" in text
    assert "11 of 11 cells have run" in text and "6 of 6 cells have run" in quick
    assert "NOT THE PAPER'S PROTOCOL" not in text and "THIS IS NOT THE PAPER'S PROTOCOL." in quick
    assert "on 60 images for 2 epochs" in " ".join(quick.split()) and "It shows nothing." in " ".join(quick.split())
    for words in (text, quick):
        assert max(map(len, words.splitlines())) <= 80
        assert "60.50±1.20" in words and "61.25" in words and "Somebody else." in words
    assert "s.e." in text and "s.e." not in quick and "seen" in text
    line = next(line.split() for line in text.splitlines() if line.lstrip().startswith("75% snip"))
    snip = of(comparison(*ASKED, "--show"), "0.75/snip")
    ours = f"{snip['mean']:.2f}±{snip['sd']:.2f}".replace("±0.", "±.")
    assert line == ["75%", "snip", "60.50±1.20", "61.25", ours, "3", f"{snip['difference']:+.2f}",
                    f"{snip['standard_errors']:+.1f}", f"{snip['best_mean']:.2f}", "2"]  # fmt: skip


def test_one_cell_then_the_rest(here: Path) -> None:
    """What a cell needs and no more; the others are shown as not run; seeds too can be added later."""
    found = comparison(*QUICK, "--cell", "digits/tiny/.75/snip", "--seeds", "1")
    assert [c["cell"] for c in found["cells"] if c["n"]] == ["digits/tiny/0.75/snip"]
    assert len(list(here.glob("runs/small/store/steps/*/*"))) == 3
    text = printed(*QUICK, "--show")
    assert text.count("not run") == 5 and "1 of 6 cells have run" in text
    found = comparison(*QUICK, "--cell", "*/snip", "*/dense", "--seeds", "2")
    assert [(c["cell"], c["n"]) for c in found["cells"] if c["n"]] == [
        ("digits/tiny/dense", 2),
        ("digits/tiny/0.75/snip", 2),
    ]
    (claim, _) = found["claims"]
    assert (claim["verdict"], claim["n"], claim["difference"]) == ("not run", 0, None)


def test_show_and_dry_run_need_nothing_and_write_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETLAB_DATA", str(here / "nowhere"))
    before = sorted(here.rglob("*"))
    with nothing_computed():
        assert "0 of 11 cells have run" in printed(*ASKED, "--show")
        assert all(c["n"] == 0 for c in comparison("reproduce", "su2020/random-tickets", "--show")["cells"])
        plan = printed(*QUICK, "--dry-run")
    assert "digits / tiny: 6 cells, 2 seeds, 4 control" in plan and "with 1 job\n" in plan
    assert [p for p in sorted(here.rglob("*")) if "__pycache__" not in p.parts] == before


def test_killed_and_started_again(runs: Path, here: Path) -> None:
    """The records are those of one go but for the times, and finished trainings have theirs at once."""
    for steps in (5, 4):
        assert killed_after(steps, *QUICK, "--out", "a") == -signal.SIGKILL
    assert 0 < len(kept("a")) < 12
    assert killed_after(0, *QUICK, "--out", "a") == 0
    assert timeless(kept("a")) == timeless(kept(runs / "runs/small")) and len(kept("a")) == 12


_KILLED_WRITE = """
import os, signal, sys
from ticketlab.cli import main
from ticketlab.reproduce import records
write, written = records.write, []
def last(*arguments):
    written.append(1)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*arguments)
records.write = last
sys.exit(main(sys.argv[1:]))
"""


def test_killed_between_a_training_and_its_record(runs: Path, here: Path) -> None:
    assert in_a_process(_KILLED_WRITE, *QUICK, "--out", "a").returncode == -signal.SIGKILL
    assert len(kept("a")) == 2
    printed(*QUICK, "--out", "a")
    assert timeless(kept("a")) == timeless(kept(runs / "runs/small"))


def test_interrupted(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put, stored = Store.put, []

    def last(*arguments: Any) -> None:
        put(*arguments)
        stored.append(1)
        if len(stored) == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", last)
        assert run(*QUICK) == 130
    out, err = capsys.readouterr()
    assert out == "" and "the same command goes on from there" in err
    before = kept()
    assert before
    assert f"{len(before)} of 6 cells have run" in printed(*QUICK, "--show")
    printed(*QUICK)
    assert len(kept()) == 12 and [r for r in kept() if r in before] == before


def test_damage_is_mended(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A power cut leaves an empty record; a bad disk a damaged mask, from which a record was still to be made."""
    before = timeless(kept())
    first, second, *_ = sorted(done.glob("runs/small/records/small/*quick*.json"))
    first.write_bytes(b"")
    second.unlink()
    assert str(first.relative_to(done)) in refused(capsys, *QUICK, "--show")
    printed(*QUICK)
    assert timeless(kept()) == before
    shutil.rmtree(done / "runs/small/records")
    for mask in done.glob("runs/small/store/steps/*/*/mask.safetensors"):
        mask.write_bytes(mask.read_bytes()[:-1] + b"?")
    printed(*QUICK)
    assert timeless(kept()) == before


def test_two_processes(runs: Path, here: Path) -> None:
    printed("reproduce", "small.toml", "--quick", "--jobs", "2", "--out", "a")
    assert timeless(kept("a")) == timeless(kept(runs / "runs/small"))


def test_two_machines(runs: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One has run a cell, the other all cells of fewer seeds: brought together, it is what one would have."""
    printed(*QUICK, "--out", "one", "--cell", "*/snip")
    printed(*QUICK, "--out", "two", "--seeds", "1")
    capsys.readouterr()
    assert run("store", "import", "one", "two", "--into", "all") == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and "2 records" in told[0] and "5 records" in told[1] and "0 damaged" in told[1]
    with nothing_computed():
        found = comparison(*QUICK, "--out", "all", "--show")
    assert {c["cell"].split("/")[-1]: c["n"] for c in found["cells"]} == {
        "dense": 1, "smart-ratio": 1, "snip": 2, "lr-rewinding": 1, "moved": 1, "half": 1,
    }  # fmt: skip
    printed(*QUICK, "--out", "all")
    assert timeless(kept("all")) == timeless(kept(runs / "runs/small"))
    assert run("store", "import", "nowhere", "--into", "all") == 2


def test_saved_and_counted_in(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of records is added to, never written over; with it, no folder is needed."""
    whole = comparison(*ASKED, "--show", "--save", "results/small.jsonl")
    lines = (done / "results/small.jsonl").read_text().splitlines()
    assert len(lines) == 33 and all(set(json.loads(line)["provenance"]) >= {"commit", "machine"} for line in lines)
    assert comparison(*ASKED, "--show", "--out", "empty", "--with", "results/small.jsonl") == whole
    assert "LEFT OUT: 33 trainings: of small, in full." in " ".join(
        printed(*QUICK, "--show", "--out", "empty", "--with", "results/small.jsonl").split()
    )
    content = (done / "results/small.jsonl").read_bytes()
    printed(*ASKED, "--show", "--out", "empty", "--save", "results/small.jsonl")
    assert (done / "results/small.jsonl").read_bytes() == content
    capsys.readouterr()
    assert run(*QUICK, "--show", "--save", "results/small.jsonl") == 0
    assert "results/small.jsonl, 12 new of 45" in capsys.readouterr().err
    assert len(records.load(done / "results/small.jsonl")) == 45


def test_markdown(done: Path) -> None:
    printed(*ASKED, "--show", "--markdown", "made/for/it/table.md")
    text = (done / "made/for/it/table.md").read_text()
    assert "| digits / tiny | 75% snip | 60.50±1.20 | 61.25 |" in text and "epochs seen" in text
    assert text.count("\n| ") == 2 + 11 + 2 + 4


def edited(old: str, new: str) -> None:
    text = Path("small.toml").read_text()
    assert old in text
    Path("small.toml").write_text(text.replace(old, new))


REWINDING = "lr-rewinding,rewind=0,epochs=100%"


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("epochs = 2\nbatch_size = 15", "epochs = 1\nbatch_size = 15", {"epochs 2, not 1": 12}),
        ("per_class = 4", "per_class = 5", {"4 scoring images per class, not 5": 2}),
        ("train = 60", "train = 70", {"60 images to train, not 70": 12}),
        ("\ntiny = ", "\nother = ", {"cells that the table does not have": 12}),
        ('method = "snip"', 'method = "snip,mode=eval"', {"snip as snip": 2}),
        ('"half-data-su2020"', '"half-data"', {f"half as {REWINDING} under half-data-su2020": 2}),
        ("sparsities = [0.75]", "sparsities = [0.5]", {"cells that the table does not have": 10}),
    ],
)
def test_a_table_that_was_edited(old: str, new: str, left: dict[str, int], done: Path) -> None:
    """What was run under the old words is no result of the new ones; it is kept, and said."""
    edited(old, new)
    found = comparison(*QUICK, "--show")
    assert found["left_out"] == left and sum(c["n"] for c in found["cells"]) == 12 - sum(left.values())
    (number,) = left.values()
    assert f"LEFT OUT: {number} trainings:" in printed(*QUICK, "--show")
    edited(new, old)
    assert comparison(*QUICK, "--show")["left_out"] == {}


def test_another_spelling_is_no_edit(done: Path) -> None:
    edited("lr-rewinding,rewind=0,epochs=100%", "lr-rewinding,epochs=100%,rewind=0")
    edited('method = "snip"', 'method = "snip,mode=train"')
    assert comparison(*QUICK, "--show")["left_out"] == {}


def test_an_edited_table_runs_beside_the_old_one(done: Path) -> None:
    edited("epochs = 2\nbatch_size = 15", "epochs = 1\nbatch_size = 15")
    found = comparison(*QUICK, "--cell", "*/snip", "--seeds", "1")
    assert of(found, "0.75/snip")["n"] == 1 and found["left_out"] == {"epochs 2, not 1": 12}
    assert of(found, "0.75/snip")["epochs_seen"] == 1 and len(kept()) == 13


def test_other_numerics_are_kept_apart(done: Path) -> None:
    found = comparison(*QUICK, "--precision", "bf16", "--cell", "*/snip", "--seeds", "1")
    assert of(found, "0.75/snip")["n"] == 1 and of(found, "0.75/snip")["where"] == ["cpu bf16"]
    assert found["left_out"] == {"in fp32, which --precision fp32 shows": 12}
    found = comparison(*QUICK, "--show")
    assert of(found, "0.75/snip")["n"] == 2 and found["left_out"] == {"in bf16, which --precision bf16 shows": 1}
    # Another engine is the same protocol, but no partner of a pair.
    printed(*QUICK, "--engine", "plain", "--out", "e", "--cell", "*/smart-ratio")
    printed(*QUICK, "--out", "e", "--cell", "*/snip")
    found = comparison(*QUICK, "--show", "--out", "e")
    assert of(found, "0.75/snip")["n"] == of(found, "0.75/smart-ratio")["n"] == 2
    assert found["claims"][0]["n"] == 0


def test_a_training_that_diverges(here: Path) -> None:
    edited("epochs = 2\nbatch_size = 15", "epochs = 2\nlr = 1e25\nbatch_size = 15")
    found = comparison(*QUICK)
    assert all(c["diverged"] == 2 and c["accuracies"] == [None, None] and c["mean"] == 10 for c in found["cells"])
    text = printed(*QUICK, "--markdown", "t.md", "--save", "t.jsonl")
    assert text.count(" diverged ") >= 6 and "12 trainings diverged and count as chance" in " ".join(text.split())


BAD: list[tuple[list[str], list[str]]] = [
    (["--cell", "digits/tiny/0.9"], ["asked for cell 'digits/tiny/0.9'", "digits/tiny/0.75"]),
    (["--cell", "*/snop"], ["'*/snop'", "*/snip"]),
    (["--cell", "*/snip", "nothing"], ["'nothing'"]),
    (["--quick", "--cell", "digits/tiny/0.5/snip"], ["'digits/tiny/0.5/snip'", "The full table has it", "--quick"]),
    (["--seeds", "0"], ["asked for 0 seeds"]),
    (["--seeds", "-1", "--show"], ["asked for -1 seeds"]),
    (["--jobs", "0"], ["asked for 0 jobs"]),
    (["--data-dir", "nowhere"], ["nowhere"]),
    (["--device", "tpu"], ["asked for device 'tpu'"]),
    (["--precision", "fp8"], ["'fp8'"]),
    (["--engine", "warp"], ["'warp'"]),
    (["--with", "nowhere.jsonl"], ["asked for the records in nowhere.jsonl"]),
    (["--with", "small.toml"], ["small.toml, line 1"]),
    (["--save", "file/x.jsonl"], ["write the records to file/x.jsonl", "is not a folder"]),
    (["--save", "."], ["got a folder: name a file"]),
    (["--save", "small.toml"], ["small.toml, line 1"]),
    (["--save", "x.jsonl", "--markdown", "./x.jsonl"], ["one file for both"]),
    (["--markdown", "file/x.md"], ["write the comparison to file/x.md"]),
    (["--out", "file"], ["steps and records", "is not a folder"]),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD, ids=["_".join(a) for a, _ in BAD])
def test_bad_input(arguments: list[str], parts: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything runs."""
    (here / "file").write_text("x")
    message = refused(capsys, *ASKED, *arguments)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("train = 60", "train = 60000", ["asked for 60000 images of digits", "small.toml", "train"]),
        ("sparsities = [0.75]", "sparsities = [0.99]", ["smart ratio", "keep"]),
        ('"tiny:net"', '"tiny:nat"', ["'nat'"]),
        ("rewind=0", "rewind=9", ["rewind to epoch 9"]),
        ("[[claims]]", "claims", ["small.toml", "no valid TOML"]),
    ],
)
def test_bad_tables(old: str, new: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    edited(old, new)
    message = refused(capsys, *QUICK)
    for part in parts:
        assert part in message


def test_missing_data_are_found_missing_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "empty").mkdir()
    message = refused(capsys, "reproduce", "su2020/random-tickets", "--quick", "--data-dir", "empty")
    assert "cifar10" in message and "empty" in message


@pytest.mark.parametrize("name", ["my table.toml", "_x.toml", "tä.toml"])
def test_names_that_no_record_could_have(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / name).write_text(TABLE)
    assert "asked for a table of the name" in refused(capsys, "reproduce", name, "--quick")


@pytest.mark.parametrize("option", ["--save", "--markdown"])
def test_what_is_no_ordinary_file_is_not_replaced(option: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(here / "pipe")
    assert "got no ordinary file" in refused(capsys, *QUICK, option, "pipe")
    assert (here / "pipe").is_fifo()


def test_a_terminal_without_plus_minus(done: Path) -> None:
    script = "import sys\nfrom ticketlab.cli import main\nsys.stdout.reconfigure(encoding='ascii')\n"
    found = in_a_process(script + "sys.exit(main(sys.argv[1:]))", *ASKED, "--show")
    assert found.returncode == 0 and "60.50?1.20" in found.stdout


def test_help() -> None:
    script = "import contextlib, sys\nfrom ticketlab.cli import main\nwith contextlib.suppress(SystemExit):\n"
    script += "    main(['reproduce', '--help'])\n"
    assert in_a_process(script + "sys.exit(bool({'torch', 'numpy', 'scipy'} & set(sys.modules)))").returncode == 0
