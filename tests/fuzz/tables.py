"""Recipes of tables, records of trainings, published figures, and what is typed on a command line."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ticketlab import checks, methods, spec
from ticketlab.checks import CHECKS
from ticketlab.experiment.settings import before_any_run
from ticketlab.methods import METHODS
from ticketlab.report import require
from ticketlab.reproduce import published, records, table
from ticketlab.reproduce.protocol import sift
from ticketlab.reproduce.table import Table, tomllib

from .damage import TEXTS, Pairs, altered, as_json, damaged, in_bytes, pairs
from .reader import Reader, file
from .toml_text import OTHERS, as_toml, with_lines

_ROOT = Path(__file__).resolve().parents[2]
_RECIPES = ("su2020/random-tickets", "su2020/partially-trained-checks", "sketching/effects")


@functools.cache
def _recipe(name: str) -> bytes:
    return (_ROOT / "recipes" / f"{name}.toml").read_bytes()


@st.composite
def _recipes(draw: st.DrawFn) -> bytes:
    whole = _recipe(draw(st.sampled_from(_RECIPES)))
    how = draw(st.integers(0, 4))
    if how == 0:
        return draw(damaged(whole))
    if how == 1:
        return in_bytes(draw(with_lines(whole.decode())))
    lie = draw(altered(tomllib.loads(whole.decode()), most=2, others=OTHERS))
    return in_bytes(as_toml(lie) if isinstance(lie, Pairs) else as_json(lie))


def _read_recipe(folder: Path) -> None:
    full = table.load(str(folder / "x.toml"))
    assert full.rows and full.networks and all(0 <= s < 1 for s in full.sparsities)
    table.load(str(folder / "x.toml"), quick=True)


@functools.cache
def a_record() -> dict[str, Any]:
    """One training of a table, as it was written down."""
    lines = (_ROOT / "results/su2020/random-tickets.quick.jsonl").read_text().splitlines()
    return next(record for record in map(json.loads, lines) if record["row"] == "snip")


def _records_file() -> bytes:
    return b"".join(json.dumps({**a_record(), "seed": seed}).encode() + b"\n" for seed in range(3))


@st.composite
def _records(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(_records_file()))
    lines = [draw(altered({**a_record(), "seed": seed}, most=1)) for seed in range(draw(st.integers(0, 3)))]
    return b"\n".join(in_bytes(as_json(line)) for line in lines)


@st.composite
def _believable_records(draw: st.DrawFn) -> bytes:
    """Records that are whole, and say something else than the table does."""
    lines = []
    for seed in range(draw(st.integers(1, 3))):
        key = draw(
            st.sampled_from(["method", "check", *sorted(a_record())] if draw(st.booleans()) else ["method", "check"])
        )
        named = st.sampled_from([*_CODE, *METHODS, *CHECKS])
        value = draw(named if key in ("method", "check") and draw(st.booleans()) else altered(a_record()[key], most=1))
        lines.append(Pairs(tuple({**dict(pairs(a_record()).items), "seed": seed, key: pairs(value)}.items())))
    return b"\n".join(in_bytes(as_json(line)) for line in lines)


_CODE = [
    "fuzz_sentinel:run",
    "fuzz_sentinel:run+sampled",
    "versus:fuzz_sentinel:run",
    "snip,budget=ratios:fuzz_sentinel:run",
]


def _read_records(folder: Path) -> None:
    found = records.load(folder / "x.jsonl")
    records.one_per_seed(records.merged(found, found))
    for record in found:
        path = records.write(folder / "into", record)
        assert path.resolve().is_relative_to((folder / "into").resolve())
        again = records.read(folder / "into", record.table, record.protocol)
        assert record.key in [r.key for r in again]
        assert records.there(folder / "into", record.key)


@functools.cache
def _quick() -> Table:
    return table.load("su2020/random-tickets", quick=True)


def _sift_records(folder: Path) -> bool:
    return not sift(_quick(), records.load(folder / "x.jsonl")).left_out


def _published() -> bytes:
    return (_ROOT / "recipes/su2020/published.csv").read_bytes()[:1500].rpartition(b"\n")[0]


@st.composite
def _figures(draw: st.DrawFn) -> bytes:
    if draw(st.booleans()):
        return draw(damaged(_published()))
    lines = _published().decode().split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    cells = lines[at].split(",")
    others = st.one_of(
        st.sampled_from([*TEXTS, '"', '"a', 'a"b', "1e999", "-1", "101", "٣", "1_0", " 1 ", "\r", "\u2028", "#"]),
        st.text(max_size=5),
    )
    cells[draw(st.integers(0, len(cells) - 1))] = draw(others)
    return in_bytes("\n".join([*lines[:at], ",".join(cells), *lines[at + 1 :]]))


def _read_figures(folder: Path) -> None:
    assert all(0 <= figure.mean <= 100 for figure in published.read(folder / "published.csv").figures.values())


def _spec() -> str:
    return "imp,rounds=5"


def _specs() -> st.SearchStrategy[str]:
    options = sorted(
        {name for method in METHODS.values() for name in method.options} | {"mode", "select", "budget", "rounds"}
    )
    options += ["temperature", "mix", "draw", "epochs", "rewind", ""]
    values = [
        "1",
        "0",
        "-1",
        "5",
        "1e9",
        "1e400",
        "nan",
        "inf",
        "true",
        "none",
        "",
        "50%",
        "1e9%",
        "-5%",
        "global",
        "train",
        "top-k",
    ]
    values += [
        "sampled",
        "ratios:magnitude",
        "ratios:ratios:x",
        "ratios:",
        "1" * 5000,
        "0x1",
        "٣",
        "1_0",
        "999999999999999999999",
        "smart",
    ]
    values += ["ratios:no.such:thing", "%", "1%%", "eval", "inverted", "uniform", "erk"]
    name = st.one_of(
        st.sampled_from([*METHODS, *(f"{m}+sampled" for m in METHODS)]),
        st.sampled_from([*TEXTS, *_OWN]),
        st.text(max_size=6),
    )
    value = st.one_of(
        st.sampled_from(values),
        st.sampled_from(TEXTS),
        st.text(max_size=6),
        st.integers().map(str),
        st.floats().map(str),
    )
    option = st.builds("{}={}".format, st.one_of(st.sampled_from(options), st.text(max_size=4)), value)
    return st.builds(
        lambda n, o: ",".join([n, *o]), name, st.lists(st.one_of(option, option, st.text(max_size=4)), max_size=3)
    )


# Code of the user's own, found or not: here a name may lead to any object.
_OWN = [
    "os:getcwd",
    "os:",
    "os:nothing",
    "math:pi",
    "math:sqrt",
    "builtins:dict",
    "builtins:print",
    "json:JSONDecoder",
    "builtins:type",
]
_OWN += [
    "ticketlab.methods:METHODS",
    "ticketlab.errors:InputError",
    "json.decoder.x:y",
    "builtins:None",
    "math:sqrt:x",
    "functools:partial",
]


def _read_spec(folder: Path) -> None:
    text = (folder / "spec").read_bytes().decode("utf-8", "surrogatepass")
    method, own = methods.configured(*spec.resolve(text))
    assert method.name and isinstance(own, dict)
    checks.resolve(f"versus:{text}")


def _typed(name: str) -> Any:
    def write(text: str, folder: Path) -> None:
        (folder / name).write_bytes(in_bytes(text))

    return write


def _margins() -> st.SearchStrategy[str]:
    known = [
        "0.5",
        "2%",
        "%",
        "nan%",
        "inf",
        "-2%",
        "1e400%",
        "1e-400",
        " 3 ",
        "٣",
        "1_0",
        "0x1",
        "2 %",
        "2%%",
        "100",
        "1e308%",
        "10",
    ]
    return st.one_of(
        st.sampled_from(known),
        st.sampled_from(TEXTS),
        st.text(max_size=8),
        st.floats().map(str),
        st.floats().map("{}%".format),
    )


def _read_margin(folder: Path) -> None:
    text = (folder / "margin").read_bytes().decode("utf-8", "surrogatepass")
    wanted = {
        "looks": [3, 5],
        "weights": [0.5, 0.5],
        "alpha": 0.05,
        "multiplicity": "holm",
        "family": "report",
        "test": "paired",
    }
    for test, chance in ((360, 10.28), (10_000, 10.0)):
        assert 300 / test * (1 - 1e-6) <= before_any_run({**wanted, "margin": text}, test, chance).margin < float("inf")


def _document() -> dict[str, Any]:
    row = {
        "method": "snip",
        "check": "rearrange",
        "sparsity": 0.9,
        "verdict": "uses",
        "drop": 1.0,
        "ci_low": 0.1,
        "ci_high": 2.0,
        "n": 5,
    }
    return {
        "methods": [{"label": "snip"}, {"label": "grasp,temperature=1"}],
        "checks": [{"name": "rearrange"}, {"name": "versus:smart-ratio"}],
        "sparsities": [0.9, 0.98],
        "verdicts": [row, {**row, "sparsity": 0.98, "verdict": "undecided", "ci_low": None}],
        "not_applicable": [{"method": "snip", "check": "versus:smart-ratio", "why": "no"}],
    }


@st.composite
def _requirements(draw: st.DrawFn) -> str:
    parts = [
        *TEXTS,
        "snip",
        "grasp,temperature=1",
        "rearrange",
        "versus:smart-ratio",
        "@0.9",
        "@",
        "@nan",
        "@1e400",
        "@0.98",
        "uses",
        "decided",
    ]
    parts += ["=", ":", "=uses", "=decided", "=better", "@0.90000000001", ","]
    if draw(st.integers(0, 2)) == 0:
        return draw(st.one_of(st.text(max_size=12), st.lists(st.sampled_from(parts), max_size=7).map("".join)))
    m, c = (
        draw(st.sampled_from(["snip", "grasp,temperature=1", "x"])),
        draw(st.sampled_from(["rearrange", "versus:smart-ratio", "y"])),
    )
    return f"{m}:{c}{draw(st.sampled_from(parts))}={draw(st.sampled_from([*require.EXPECTED, 'use', '']))}"


def _read_requirement(folder: Path) -> None:
    text = (folder / "require").read_bytes().decode("utf-8", "surrogatepass")
    wanted = require.parse(text, _document())
    assert all(isinstance(line, str) for line in require.unmet([wanted], _document()))


READERS = [
    Reader("recipe", lambda: _recipe(_RECIPES[0]), _recipes, file("x.toml"), _read_recipe, 6, code=True),
    Reader("records", _records_file, _records, file("x.jsonl"), _read_records, 8),
    Reader("records, sifted", _records_file, _believable_records, file("x.jsonl"), _sift_records, 3),
    Reader("published figures", _published, _figures, file("published.csv"), _read_figures, 4),
    Reader("spec", _spec, _specs, _typed("spec"), _read_spec, 6, code=True),
    Reader("--margin", lambda: "2%", _margins, _typed("margin"), _read_margin, 4),
    Reader("--require", lambda: "snip:rearrange@0.9=uses", _requirements, _typed("require"), _read_requirement, 4),
]
