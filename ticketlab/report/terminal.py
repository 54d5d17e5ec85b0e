"""The results in a terminal: 80 columns are enough, colour is never needed, the answer is the last line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ticketlab.report import notes, words
from ticketlab.report.reading import Results, Row, checks, in_order, phrase, retrainings, rows, sparsities, why_not

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

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
    _key(results, console)
    _around(results, console)
    console.print()
    _say(console, notes.answer(results), style="bold")


def _around(results: Results, console: Console) -> None:
    _controls(results, console)
    missing = [f"{m} · {c}: {why}" for (m, c), why in why_not(results).items()]
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

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), expand=False)
    names = [str(row.get("method")) for row in found] + [f"  {row.get('check')}" for row in found]
    table.add_column("method, check", overflow="fold", min_width=min(22, max(map(len, names))))
    table.add_column("drop", justify="right", no_wrap=True)
    table.add_column("interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold", min_width=15)
    before = None
    for row in found:
        method = str(row.get("method"))
        if before != method:
            if before is not None:
                table.add_row()
            table.add_row(_text(console, method, "bold"))
        table.add_row(*_cells(row, console))
        before = method
    return table


def _cells(row: Row, console: Console) -> list[Text]:
    from rich.text import Text

    style = STYLES.get(words.verdict_key(row), "")
    verdict = _text(console, words.verdict(row), style)
    for line in words.circumstances(row):
        verdict = verdict + Text("\n") + _text(console, line, "dim")
    check = _text(console, str(row.get("check")), "")
    check.pad_left(2)
    return [
        check,
        _text(console, words.points(row.get("drop")) or "-"),
        _text(console, words.interval(row.get("ci_low"), row.get("ci_high")) or "none"),
        _text(console, words.short(row.get("n"))),
        verdict,
    ]


def _key(results: Results, console: Console) -> None:
    """What was done in each check, and what each column means."""
    told = checks(results)
    if not told:
        return
    console.print()
    _say(console, "What each check does", style="bold")
    for name in told:
        if phrase(results, name) != name:
            _say(console, f"- {name}: {phrase(results, name)}", indent=2)
    _say(console, "A drop is the accuracy lost by it, in points; n counts the seeds, each one a pair.", style="dim")
    if started := retrainings(results):
        console.print()
        _say(console, "What a method's last training starts from, if not from the initialisation", style="bold")
        for name, what in started:
            _say(console, f"- {name}: {what}", indent=2)


def _text(console: Console, text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(_plain(console, text), style=style)


def _plain(console: Console, text: str) -> str:
    """The text in what the terminal can show: a console without UTF-8 gets plain letters."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    if not console.options.ascii_only:
        return clean
    return clean.translate(_PLAIN).encode("ascii", "replace").decode("ascii")


def _say(console: Console, text: str, style: str = "", indent: int = 0) -> None:
    """Wrapped to the console's width with hanging lines; the text is never read as markup."""
    from rich.text import Text

    for paragraph in text.splitlines():
        lines = _text(console, paragraph, style).wrap(console, max(20, console.width - indent))
        for at, line in enumerate(lines):
            line.rstrip()
            console.print(Text(" " * indent * (at > 0)) + line, soft_wrap=True, highlight=False)
