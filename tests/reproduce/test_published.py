"""Figures of others beside a table: every number at its cell, and damaged files refused by line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ticketlab import InputError
from ticketlab.reproduce.cells import Cell, cells
from ticketlab.reproduce.published import COLUMNS, Figure, Figures, Source, read
from ticketlab.reproduce.table import Row, Table, load

FOLDER = Path(__file__).parents[2] / "recipes" / "su2020"
HEADER = ",".join(COLUMNS)


def of(table: str, folder: Path = FOLDER) -> Figures:
    return Figures.load(
        Table(
            name=f"su2020/{table}",
            path=folder / f"{table}.toml",
            title="",
            paper="",
            about="",
            datasets=("cifar10",),
            sparsities=(0.9,),
            seeds=3,
            per_class=10,
            networks={"resnet32": "resnet32"},
            training=None,
            rows=(Row("snip", {"resnet32": "snip"}, None),),
            claims=(),
            quick=False,
            note="",
            train=None,
            test=None,
        )
    )


@pytest.mark.parametrize(
    ("table", "cell", "paper", "reproduction"),
    [
        ("random-tickets", ("cifar10", "vgg19", "snip", 0.98), Figure(81.37, 18.17), Figure(89.56, None)),
        ("random-tickets", ("cifar100", "resnet32", "random-ticket", 0.9), Figure(69.70, 0.48), Figure(68.50, None)),
        ("random-tickets", ("cifar10", "resnet32", "lottery-ticket", 0.98), Figure(88.92, 0.49), None),
        ("hybrid-tickets", ("cifar10", "vgg19", "obd", 0.95), Figure(93.58, None), None),
        ("hybrid-tickets", ("cifar100", "vgg19", "lr-rewinding", 0.98), Figure(1.0, 0.0), Figure(57.01, None)),
        ("hybrid-tickets", ("cifar100", "resnet32", "hybrid-ticket", 0.98), Figure(63.44, 0.34), Figure(62.56, None)),
        ("partially-trained-checks", ("cifar10", "resnet32", "half-dataset", 0.98), Figure(89.95, 0.08), None),
        ("partially-trained-checks", ("cifar10", "resnet32", "half-data-clean", 0.98), None, None),
        ("initial-ticket-checks", ("cifar10", "vgg19", "snip-corrupted", 0.98), None, Figure(49.13, None)),
        ("initial-ticket-checks", ("cifar100", "vgg19", "grasp-rearranged", 0.98), None, Figure(68.05, None)),
        ("initial-ticket-checks", ("cifar100", "resnet32", "grasp-corrupted", 0.9), None, Figure(68.76, None)),
        ("random-tickets", ("cifar100", "resnet32", "dense", None), Figure(74.57, None), Figure(73.57, None)),
        ("tiny-imagenet", ("tiny-imagenet", "resnet32", "dense", None), None, None),
    ],
)
def test_figures_are_at_their_cells(
    table: str, cell: tuple[str, str, str, float | None], paper: Figure | None, reproduction: Figure | None
) -> None:
    figures = of(table)
    assert figures.published(Cell(*cell)) == paper
    assert figures.reproduced(Cell(*cell)) == reproduction


def test_every_published_number_belongs_to_a_cell_of_a_shipped_table() -> None:
    for source in ("paper", "reproduction"):
        left = set(getattr(of("random-tickets"), source).figures)
        for path in FOLDER.glob("*.toml"):
            table = load(str(path))
            # The reproduction has the checks of initial tickets at lower sparsities too.
            wider = replace(table, sparsities=(*table.sparsities, 0.8, 0.6, 0.4))
            figures = Figures.load(wider)
            left -= {figures._key(cell) for cell in cells(wider)}
        assert not left


def test_the_reproduction_says_how_it_differs() -> None:
    note = of("random-tickets").reproduction.note
    assert note.startswith("An independent reproduction of Su et al.") and "weight shuffling permutes the whole" in note
    assert "#" not in note and of("random-tickets").paper.note == ""


def test_the_random_tickets_of_the_reproduction_differ_from_the_paper_as_it_says() -> None:
    # The differences that the reproduction itself reports, at 90, 95 and 98%.
    for dataset, network, differences in (
        ("cifar10", "vgg19", (-0.12, -0.20, -0.04)),
        ("cifar100", "vgg19", (0.20, 0.63, -0.21)),
        ("cifar10", "resnet32", (-0.13, 0.04, -0.42)),
        ("cifar100", "resnet32", (-1.20, -0.83, -0.44)),
    ):
        for sparsity, expected in zip((0.9, 0.95, 0.98), differences, strict=True):
            cell, figures = Cell(dataset, network, "random-ticket", sparsity), of("random-tickets")
            theirs, paper = figures.reproduced(cell), figures.published(cell)
            assert theirs and paper and theirs.mean - paper.mean == pytest.approx(expected, abs=1e-9)


def test_a_table_without_figures(tmp_path: Path) -> None:
    figures = of("random-tickets", tmp_path)
    assert (figures.paper, figures.reproduction) == (Source(), Source())
    assert figures.published(Cell("cifar10", "vgg19", "snip", 0.98)) is None


GOOD = "t,cifar10,vgg19,snip,0.9,93.5,0.1"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("table,dataset\n", 1, "asked for the columns table,dataset,network,"),
        (f"# note\n{GOOD}\n", 2, "asked for the columns"),
        (f"{HEADER}\n{GOOD}\n\nt,cifar10,vgg19,snip\n", 4, "asked for 7 values, got 4"),
        (f"{HEADER}\nt,cifar10,vgg19,snip,90,93.5,0.1\n", 2, "asked for sparsity as a number of 0 to 1, got '90'"),
        (
            f"{HEADER}\nt,cifar10,vgg19,snip,0.9,x,0.1\n",
            2,
            "asked for accuracy_percent as a number of 0 to 100, got 'x'",
        ),
        (f"{HEADER}\nt,cifar10,vgg19,snip,0.9,nan,\n", 2, "asked for accuracy_percent"),
        (
            f"{HEADER}\nt,cifar10,vgg19,snip,0.9,93.5,-1\n",
            2,
            "asked for std_percent as a number of 0 or more, got '-1'",
        ),
        (f"{HEADER}\n# more\n{GOOD}\n{GOOD}\n", 4, "asked for each cell once"),
        (f'{HEADER}\nt,"cifar10"x,vgg19,snip,0.9,93.5,\n', 2, "asked for values between commas"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = tmp_path / "published.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line {line}: {what}")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "published.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="got a file that cannot be read"):
        read(tmp_path / "published.csv")
