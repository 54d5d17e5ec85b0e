"""Tables as TOML: what is read, what is refused and with which words, and the cells that come of it."""

from __future__ import annotations

from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch

from ticketlab import InputError
from ticketlab.data.names import DATASETS
from ticketlab.engine.recipe import Recipe, default_for
from ticketlab.methods import configured
from ticketlab.models.registry import build
from ticketlab.pruning import planned_budget
from ticketlab.reproduce import schema, table
from ticketlab.reproduce.cells import Cell, cells, select
from ticketlab.reproduce.table import Claim, Row, load, names
from ticketlab.spec import resolve

HEAD = """title = "A table"
paper = "Nobody, 2020"
about = "What it is."
datasets = ["digits", "cifar10"]
sparsities = [0.9, 0.5]
seeds = 3
per_class = 10
"""
NETWORKS = """
[networks]
small = "conv"
flat = "mlp"
"""
TRAINING = """
[training]
epochs = 4
lr = 0.05
drops = [0.5]
"""
ROWS = """
[[rows]]
name = "snip"
method = "snip"

[[rows]]
name = "random"
method = { flat = "smart-ratio,form=vgg", small = "smart-ratio" }

[[rows]]
name = "snip-moved"
method = "snip"
check = "rearrange"
"""
CLAIMS = """
[[claims]]
text = "snip beats chance"
higher = "snip"
lower = "random"

[[claims]]
text = "positions do not matter"
higher = "snip"
lower = "snip-moved"
expect = "equal"
"""
QUICK = """
[quick]
note = "It runs."
datasets = ["digits"]
sparsities = [0.5]
train = 200
[quick.networks]
flat = "mlp"
[quick.training]
epochs = 1
"""
WHOLE = HEAD + NETWORKS + TRAINING + ROWS + CLAIMS + QUICK
SHIPPED = [f"su2020/{path.stem}" for path in sorted(Path(__file__).parents[2].glob("recipes/su2020/*.toml"))]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the whole table as mine/whole."""
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "recipes" / "mine" / "whole.toml").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder: Path, text: str) -> str:
    path = folder / "x.toml"
    path.write_text(text)
    return str(path)


def refusal(folder: Path, text: str) -> str:
    """The message for a table's text, without the folder."""
    with pytest.raises(InputError) as caught:
        load(written(folder, text))
    return str(caught.value).replace(f"{folder}/", "")


def test_everything_that_a_file_says_is_read(here: Path) -> None:
    read = load("mine/whole")
    assert (read.name, read.title, read.paper, read.about) == ("mine/whole", "A table", "Nobody, 2020", "What it is.")
    assert (read.datasets, read.sparsities, read.seeds, read.per_class) == (("digits", "cifar10"), (0.9, 0.5), 3, 10)
    assert list(read.networks.items()) == [("small", "conv"), ("flat", "mlp")]
    assert read.training == Recipe(epochs=4, lr=0.05, drops=(0.5,))
    assert read.rows == (
        Row("snip", {"small": "snip", "flat": "snip"}, None),
        Row("random", {"small": "smart-ratio", "flat": "smart-ratio,form=vgg"}, None),
        Row("snip-moved", {"small": "snip", "flat": "snip"}, "rearrange"),
    )
    assert read.claims == (
        Claim("snip beats chance", "snip", "random", "higher"),
        Claim("positions do not matter", "snip", "snip-moved", "equal"),
    )
    assert (read.quick, read.note, read.train, read.test) == (False, "", None, None)


def test_quick_replaces_what_it_gives_and_keeps_the_rest(here: Path) -> None:
    full, quick = load("mine/whole"), load("mine/whole", quick=True)
    assert (quick.quick, quick.note, quick.train, quick.test) == (True, "It runs.", 200, None)
    assert (quick.datasets, quick.sparsities, quick.networks) == (("digits",), (0.5,), {"flat": "mlp"})
    assert quick.training == Recipe(epochs=1)
    assert (quick.seeds, quick.per_class, quick.claims) == (3, 10, full.claims)
    assert [row.methods for row in quick.rows] == [{"flat": row.methods["flat"]} for row in full.rows]


def test_without_training_every_data_set_has_its_own(tmp_path: Path) -> None:
    assert load(written(tmp_path, HEAD + NETWORKS + ROWS)).training is None


def test_a_table_without_a_quick_form(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + NETWORKS + ROWS)
    with pytest.raises(InputError, match=r"x.toml: asked for the quick form, got a table without one"):
        load(path, quick=True)


def test_names_are_found_in_the_working_directory_and_beside_the_package(here: Path) -> None:
    assert {"mine/whole", *SHIPPED} <= set(names())
    assert load("recipes/mine/whole.toml").name == "whole"


def test_a_local_table_hides_the_shipped_one(here: Path) -> None:
    (here / "recipes" / "su2020").mkdir()
    (here / "recipes" / "su2020" / "random-tickets.toml").write_text(WHOLE)
    assert load("su2020/random-tickets").title == "A table"


def test_an_unknown_name(here: Path) -> None:
    with pytest.raises(InputError, match=r"asked for table 'mine/whoel', got no such table. Did you mean 'mine/whole'"):
        load("mine/whoel")


def test_an_installed_package_has_its_tables_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "share" / "ticketlab" / "recipes" / "deep"
    folder.mkdir(parents=True)
    (folder / "one.toml").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)

    class Installed(PurePosixPath):
        def locate(self) -> Path:
            return tmp_path / self

    files = [Installed("ticketlab/cli.py"), Installed("share/ticketlab/recipes/deep/one.toml")]
    monkeypatch.setattr(table.importlib.metadata, "files", lambda name: files)
    # As in site-packages: a folder "recipes" beside the package, that is not ours.
    monkeypatch.setattr(table, "__file__", str(tmp_path / "site" / "ticketlab" / "reproduce" / "table.py"))
    (tmp_path / "site" / "recipes").mkdir(parents=True)
    (tmp_path / "site" / "recipes" / "cake.toml").write_text("eggs = 4")
    assert names() == ["deep/one"]
    assert load("deep/one").name == "deep/one"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'name = "snip"\nmethod',
            'name = "snip"\nmetod',
            "x.toml, rows[0]: asked for key 'metod', got no such key. Did ",
        ),
        ('title = "A table"\n', "", "x.toml: asked for the key 'title', got a table without it."),
        ('text = "snip beats chance"\n', "", "x.toml, claims[0]: asked for the key 'text', got a table without it."),
        ("seeds = 3", "seed = 3", "x.toml: asked for key 'seed', got no such key. Did you mean 'seeds'"),
        ("train = 200", "trian = 200", "x.toml, quick: asked for key 'trian', got no such key. Did you mean 'train"),
        ("lr = 0.05", "learning_rate = 1", "x.toml, training: asked for key 'learning_rate', got no such key."),
        ("seeds = 3", "seeds = true", "x.toml, seeds: asked for a whole number of at least 1, got true."),
        ("seeds = 3", "seeds = 0", "x.toml, seeds: asked for a whole number of at least 1, got 0."),
        ("seeds = 3", 'seeds = "three"', "x.toml, seeds: asked for a whole number of at least 1, got 'three'."),
        ("per_class = 10", "per_class = 1.5", "x.toml, per_class: asked for a whole number of at least 1, got 1.5."),
        ("[0.9, 0.5]", "[true]", "x.toml, sparsities[0]: asked for a number, got true."),
        ("[0.9, 0.5]", "[nan]", "x.toml, sparsities[0]: asked for a number, got nan."),
        ("[0.9, 0.5]", "0.9", "x.toml, sparsities: asked for a list, got 0.9."),
        ("[0.9, 0.5]", "[]", "x.toml, sparsities: asked for a list of at least one, got an empty one."),
        ("[0.9, 0.5]", "[0.9, 90]", "x.toml, sparsities[1]: asked for sparsity 90, got a fraction removed outside [0,"),
        ("[0.9, 0.5]", "[0.9, 0.90]", "x.toml, sparsities[1]: asked for sparsity 0.9 twice"),
        (
            '["digits", "cifar10"]',
            '["cifar11"]',
            "x.toml, datasets[0]: asked for data set 'cifar11', got no such data ",
        ),
        ('["digits", "cifar10"]', '["digits", "digits"]', "x.toml, datasets[1]: asked for data set 'digits' twice"),
        (
            'small = "conv"',
            'small = "convv"',
            "x.toml, networks.small: asked for model 'convv', got no such model. Did ",
        ),
        ('small = "conv"', "small = 3", "x.toml, networks.small: asked for text, got 3."),
        (NETWORKS, "[networks]\n", "x.toml, networks: asked for at least one entry, got an empty table."),
        (
            'small = "conv"',
            '"a/b" = "conv"',
            "x.toml, networks: asked for network 'a/b', got a name that is not a letter",
        ),
        ("epochs = 4", "epochs = 0", "x.toml, training: asked for epochs 0, got a recipe that needs a number above 0."),
        ("epochs = 4", 'schedule = "stpe"', "x.toml, training: asked for schedule 'stpe', got no such schedule."),
        ("epochs = 4", "augment = 1", "x.toml, training.augment: asked for true or false, got 1."),
        ("epochs = 4", "batch_size = 64.0", "x.toml, training.batch_size: asked for a whole number, got 64.0."),
        (
            "drops = [0.5]",
            "drops = [80]",
            "x.toml, training.drops[0]: asked for a drop at 80, got no share of the trai",
        ),
        (
            'method = "snip"\n\n',
            'method = "snap"\n\n',
            "x.toml, rows[0].method: asked for method 'snap', got no such method.",
        ),
        ('method = "snip"\n\n', 'method = "snip,a=1"\n\n', "x.toml, rows[0].method: asked for option of snip 'a'"),
        ('method = "snip"\n\n', "method = 3\n\n", "x.toml, rows[0].method: asked for text or a table, got 3."),
        ('flat = "smart-ratio,form=vgg", ', "", "x.toml, rows[1].method: asked for a method for every network, got no"),
        (
            "{ flat =",
            "{ falt =",
            "x.toml, rows[1].method: asked for network 'falt', got no such network. Did you mean 'fla",
        ),
        ("{ flat =", "{ flat = 1, f =", "x.toml, rows[1].method.flat: asked for text, got 1."),
        (
            '"rearrange"',
            '"rearange"',
            "x.toml, rows[2].check: asked for check 'rearange', got no such check. Did you mea",
        ),
        (
            '"rearrange"',
            '"versus:snip"',
            "x.toml, rows[2].check: asked for check 'versus:snip', got one that makes no t",
        ),
        ('name = "snip-moved"', 'name = "snip"', "x.toml, rows[2]: asked for row 'snip' twice"),
        (
            'name = "snip-moved"',
            'name = "dense"',
            "x.toml, rows[2].name: asked for row 'dense', got the name of the unp",
        ),
        (
            'name = "snip-moved"',
            'name = "*"',
            "x.toml, rows[2].name: asked for row '*', got a name that is not a letter",
        ),
        (
            'lower = "random"',
            'lower = "radnom"',
            "x.toml, claims[0].lower: asked for row 'radnom', got no such row. Did",
        ),
        ('lower = "random"', 'lower = "snip"', "x.toml, claims[0]: asked to compare 'snip' with itself, got no claim."),
        (
            '"equal"',
            '"eqal"',
            "x.toml, claims[1].expect: asked for expectation 'eqal', got no such expectation. Did you",
        ),
        (
            "[quick.networks]\nflat",
            "[quick.networks]\nflit",
            "x.toml, quick.networks: asked for network 'flit', got no ",
        ),
        (
            'datasets = ["digits"]',
            'datasets = ["digit"]',
            "x.toml, quick.datasets[0]: asked for data set 'digit', got no",
        ),
        (
            "[quick.training]\nepochs = 1",
            "[quick.training]\nlr = -1",
            "x.toml, quick.training: asked for lr -1, got a re",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert WHOLE.count(old) >= 1
    assert refusal(tmp_path, WHOLE.replace(old, new, 1)).startswith(message)


def test_no_rows(tmp_path: Path) -> None:
    assert refusal(tmp_path, HEAD + NETWORKS) == "x.toml: asked for the key 'rows', got a table without it."
    assert refusal(tmp_path, f"rows = []\n{HEAD}{NETWORKS}").startswith(
        "x.toml, rows: asked for a list of at least one"
    )
    assert refusal(tmp_path, f"{HEAD}{NETWORKS}[rows]") == "x.toml, rows: asked for a list, got a table."


@pytest.mark.parametrize(
    ("text", "what"),
    [("a = 1\nb = \n", "line 2"), ("a = 1\na = 2\n", "line 2"), ('title = "\n', "line 1")],
)
def test_toml_that_is_none(tmp_path: Path, text: str, what: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith("asked for the table in x.toml, got no valid TOML: ") and what in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    for name, what in (
        ("no.toml", "no such file"),
        ("folder.toml", "no file that can"),
        ("latin.toml", "no valid TOML"),
    ):
        with pytest.raises(InputError, match=what):
            load(str(tmp_path / name))


def test_every_field_of_the_recipe_can_be_given() -> None:
    values: dict[str, Any] = Recipe().to_json()
    place = schema.Place("x.toml")
    schema.hold(values, schema.TRAINING, place)
    assert schema.recipe(values, place) == Recipe()


def test_cells_are_in_order_of_priority(here: Path) -> None:
    ids = [cell.id for cell in cells(load("mine/whole"))]
    assert ids[:8] == [
        "digits/small/dense",
        "digits/small/0.9/snip",
        "digits/small/0.9/random",
        "digits/small/0.9/snip-moved",
        "digits/small/0.5/snip",
        "digits/small/0.5/random",
        "digits/small/0.5/snip-moved",
        "digits/flat/dense",
    ]
    assert len(ids) == len(set(ids)) == 2 * 2 * (1 + 2 * 3)


def test_sparsities_that_differ_have_different_ids() -> None:
    near = [Cell("digits", "small", "snip", s) for s in (0.9, 0.99, 0.9999999, 0.99999991, 0.0)]
    assert [cell.id.split("/")[2] for cell in near] == ["0.9", "0.99", "0.9999999", "0.99999991", "0"]


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        ([], 28),
        (["digits"], 14),
        (["digits/"], 14),
        (["digits/small/0.90"], 3),
        (["digits/small/.9/snip"], 1),
        (["digits/*/0.9"], 6),
        (["*/dense"], 4),
        (["*/snip"], 8),
        (["digits/small/dense", "digits/small"], 7),
        (["cifar10/flat/5e-1", "digits/flat/dense"], 4),
    ],
)
def test_selection(here: Path, patterns: list[str], count: int) -> None:
    whole = load("mine/whole")
    chosen = select(whole, patterns)
    assert len(chosen) == count
    assert chosen == [cell for cell in cells(whole) if cell in chosen]


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("digit", "'digits'"),
        ("digits/smal", "'digits/small'"),
        ("digits/small/0.8", "'digits/small/0.9'"),
        ("digits/small/0.9/snp", "'digits/small/0.9/snip'"),
        ("snip", r"'\*/snip'"),
        ("", "Known: digits, cifar10"),
    ],
)
def test_a_pattern_that_names_no_cell(here: Path, pattern: str, near: str) -> None:
    with pytest.raises(InputError, match=f"asked for cell '{pattern}', got no such cell.*{near}"):
        select(load("mine/whole"), [pattern])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tables(name: str) -> None:
    full, quick = load(name), load(name, quick=True)
    assert full.name == quick.name == name and full.claims
    assert quick.note and quick.train and quick.test and set(quick.networks) <= set(full.networks)
    assert len(cells(quick)) < len(cells(full))
    for read in (full, quick):
        training = read.training or default_for(read.datasets[0])
        for dataset, (network, model), sparsity in product(read.datasets, read.networks.items(), read.sparsities):
            with torch.device("meta"):
                net = build(model, DATASETS[dataset].classes, DATASETS[dataset].shape)
            for row in read.rows:
                method, options = configured(*resolve(row.methods[network]))
                method.program(sparsity, options)
                assert planned_budget(net, method, options, sparsity) > 0
        assert training.batch_size == 64 and training.lr == 0.1


def test_which_tables_are_shipped() -> None:
    assert [name.removeprefix("su2020/") for name in SHIPPED] == [
        "hybrid-tickets",
        "initial-ticket-checks",
        "partially-trained-checks",
        "random-tickets",
        "ratio-ablations",
        "tiny-imagenet",
    ]
