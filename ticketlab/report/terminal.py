"""The results in a terminal: 80 columns are enough, colour is never needed, the answer is the last line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketlab.report import notes, words
from ticketlab.report.reading import Results, Row, in_order, phrase, rows, sparsities, why_not

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES = {"uses": "bold blue", "not": "yellow", "better": "magenta", "undecided": "dim", "void": "bold red"}
_PLAIN = str.maketrans({"·": "-", "×": "x", "–": "-", "−": "-", "≤": "<=", "…": "..."})


def render(results: Results, console: Console) -> None:
    """Print the results; the last words are the answer."""
    _say(console, str(results.get("title") or "ticketlab results"), style="bold")
    for name, value in notes.headline(results):
        _say(console, f"{name:<9} {value}", indent=10)
    for sparsity in sparsities(results):
        found = in_order(results, sparsity)
        if found:
            console.print()
            _say(console, f"Sparsity {words.percent(sparsity)}", style="bold")
            console.print(_table(results, found, console))
    summary = rows(results, "summary_rows")
    if summary:
        console.print()
        _say(console, "Averaged over sparsities (a family of its own)", style="bold")
        console.print(_table(results, summary, console))
    _around(results, console)
    console.print()
    _say(console, notes.answer(results), style="bold")


def _around(results: Results, console: Console) -> None:
    _controls(results, console)
    missing = [f"{m} · {phrase(results, c)}: {why}" for (m, c), why in why_not(results).items()]
    for head, lines in (("Not applicable", missing), ("Warnings", notes.warnings(results))):
        if lines:
            console.print()
            _say(console, head, style="bold")
            for line in lines:
                _say(console, f"- {line}", indent=2)
    console.print()
    for line in notes.foot(results):
        _say(console, line, style="dim")


def _controls(results: Results, console: Console) -> None:
    found = rows(results, "controls")
    if not found:
        return
    passed = sum(row.get("passed") is True for row in found)
    console.print()
    _say(console, f"Controls: {passed} of {len(found)} passed.", style="bold" if passed < len(found) else "")
    told: dict[str, str] = {}
    for row in found:
        if row.get("passed") is True and row.get("summary"):
            told.setdefault(str(row.get("check")), str(row["summary"]))
    for check, summary in told.items():
        _say(console, f"- {check}, for example: {summary}", indent=2)


def _table(results: Results, found: list[Row], console: Console) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), expand=False)
    table.add_column("method", overflow="fold", max_width=max(12, console.width // 4))
    table.add_column("check", overflow="fold", min_width=10)
    table.add_column("drop, points", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("verdict", overflow="fold", min_width=15)
    table.add_column("n", justify="right", no_wrap=True)
    before = None
    for row in found:
        method = str(row.get("method"))
        if before not in (None, method):
            table.add_section()
        table.add_row(*(_cell(console, *cell) for cell in _cells(results, row, method == before)))
        before = method
    return table


def _cells(results: Results, row: Row, repeated: bool) -> list[tuple[str, str]]:
    style = STYLES.get(words.verdict_key(row), "")
    verdict = words.verdict(row)
    extra = [str(row["qualifier"])] if row.get("qualifier") else []
    extra += [text for text in (words.collapsed(row), words.stragglers(row)) if text]
    if row.get("verdict") == "undecided" and words.seeds_needed(row):
        extra.append(f"needs {words.seeds_needed(row)} seeds")
    low, high = row.get("ci_low"), row.get("ci_high")
    return [
        ("" if repeated else str(row.get("method")), ""),
        (phrase(results, str(row.get("check"))), ""),
        (words.points(row.get("drop")) or "-", ""),
        (words.interval(low, high) or "none", ""),
        ("\n".join([verdict, *extra]), style),
        (words.short(row.get("n")), ""),
    ]


def _cell(console: Console, text: str, style: str) -> object:
    from rich.text import Text

    return Text(_plain(console, text), style=style)


def _plain(console: Console, text: str) -> str:
    """The text in what the terminal can show: a console without UTF-8 gets plain letters."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    if not console.options.ascii_only:
        return clean
    return clean.translate(_PLAIN).encode("ascii", "replace").decode("ascii")


def _say(console: Console, text: str, style: str = "", indent: int = 0) -> None:
    """One paragraph, wrapped to the console's width with hanging lines, and never read as markup."""
    from rich.text import Text

    width = max(20, console.width)
    words_left = _plain(console, text)
    lines = Text(words_left, style=style).wrap(console, width - indent)
    first = True
    for line in lines:
        line.rstrip()
        console.print(line if first else Text(" " * indent) + line, soft_wrap=True, highlight=False)
        first = False
