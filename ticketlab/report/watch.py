"""How a study stands, as lines for a terminal of any width: what matters most comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ticketlab.report.progress import BAR
from ticketlab.report.reading import number
from ticketlab.report.words import duration, points

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ticketlab.experiment.claims import Claim
    from ticketlab.watch.status import Failed, Finished, Status

# How many of what runs, of what was finished and of what failed are shown, where there is room.
_SHOWN = ((12, 5, 5), (8, 5, 3), (5, 3, 2), (3, 2, 1), (1, 1, 1))
# Seconds that a run may take to load its data before it computes anything.
_START = 60
_PLAIN = str.maketrans({"━": "#", "─": "-", "·": "-", "×": "x", "–": "-", "−": "-", "≤": "<=", "…": "..."})


def fitting(status: Status, console: Console) -> Text:
    """The lines that a terminal has room for: where they are too many, less of each list."""
    from rich.text import Text

    room = max(1, console.height - 1)
    for shown in _SHOWN:
        found = list(lines(status, console, shown))
        if len(found) <= room:
            break
    return Text("\n").join(found[:room])


def lines(status: Status, console: Console, shown: tuple[int, int, int] = _SHOWN[0]) -> Iterator[Text]:
    """All there is to say, each line within the console's width."""
    yield from _wrapped(console, status.title, "bold")
    yield from _bar(status, console)
    yield from _wrapped(console, _counts(status))
    yield from _wrapped(console, _times(status), indent=2)
    if status.damaged:
        yield from _wrapped(console, f"{status.damaged} damaged: whoever runs it next computes them again", "yellow")
    running, finished, failed = shown
    if status.running or status.lost:
        yield from _head(console, "Running")
        # What is alive first: of a cluster that went away there may be many that are not.
        rows = [*(_running(c, status.at) for c in status.running), *(_lost(c, status.at) for c in status.lost)]
        yield from _rows(console, rows[:running])
        yield from _more(console, len(rows) - running)
    elif not status.complete:
        yield from _head(console, "Nothing runs right now")
        if status.command and status.idle > _START:
            yield from _wrapped(console, f"  go on with: {status.command}", "dim", indent=4)
    if status.failed:
        yield from _head(console, f"Failed ({len(status.failed)})", "bold red")
        for failure in status.failed[:failed]:
            yield from _wrapped(console, _failure(failure), "red", indent=4)
        yield from _more(console, len(status.failed) - failed)
    if status.latest:
        yield from _head(console, "Finished last")
        yield from _rows(console, [_finished(f, status.at) for f in status.latest[:finished]])
    if status.answer:
        yield from _head(console, "The answer" if status.complete else "So far")
        for line in status.answer.splitlines():
            yield from _wrapped(console, f"  {line}", indent=4)


def _bar(status: Status, console: Console) -> Iterator[Text]:
    from rich.text import Text

    share = status.done / status.total if status.total else 1.0
    filled = int(BAR * share)
    full, rest = _plain(console, "━"), _plain(console, "─")
    # Never 100% before the end.
    text = f"{status.done:,} of {status.total:,} steps, {int(100 * share)}%"
    bar = Text.assemble((full * filled, "blue"), (rest * (BAR - filled), "dim"))
    if len(text) + BAR + 2 <= console.width:
        yield Text.assemble(bar, "  ", text)
        return
    if console.width >= BAR:
        yield bar
    yield from _wrapped(console, text)


def _counts(status: Status) -> str:
    """ "train 50 of 90, prune 20"."""
    return ", ".join(
        f"{kind} {done:,}" if total is None or done == total else f"{kind} {done:,} of {total:,}"
        for kind, (done, total) in status.kinds.items()
    )


def _times(status: Status) -> str:
    parts = [] if status.began is None else [f"started {duration(status.at - status.began)} ago"]
    parts.append(f"{duration(status.seconds)} of computing")
    if not status.complete:
        many = f"{status.workers} worker{'' if status.workers == 1 else 's'}"
        if status.left is not None:
            parts.append(f"about {duration(status.left)} left with {many}")
        elif status.workers:
            parts.append(f"time left with {many} not known yet")
    return ", ".join(parts)


def _lost(claim: Claim, now: float) -> tuple[str, str, str]:
    return claim.label, f"no sign of life for {duration(now - claim.beat)}", "yellow"


def _running(claim: Claim, now: float) -> tuple[str, str, str]:
    said = claim.progress or {}
    epoch, epochs, accuracy = (number(said.get(key)) for key in ("epoch", "epochs", "accuracy"))
    parts = [] if claim.kind == "train" else [claim.kind]
    if epoch is not None and epochs is not None:
        parts.append(f"epoch {epoch:.1f} of {epochs:g}")
    if accuracy is not None:
        parts.append(f"{points(accuracy)}%")
    return claim.label, ", ".join([*parts, f"for {duration(now - claim.began)}"]), ""


def _finished(found: Finished, now: float) -> tuple[str, str, str]:
    accuracy = number(found.accuracy)
    said = "diverged" if accuracy is None else f"{points(accuracy)}%"
    took = f"in {duration(found.seconds) if found.seconds >= 1 else 'under 1s'}" if found.seconds else "shared"
    return found.label, f"{said}, {took}, {duration(now - found.finished)} ago", "" if said != "diverged" else "yellow"


def _failure(failed: Failed) -> str:
    first = next(iter(failed.error.strip().splitlines()), "no words for it")
    return f"  {failed.label} ({failed.kind}): {first[:300]}"


def _rows(console: Console, rows: Sequence[tuple[str, str, str]]) -> Iterator[Text]:
    """What it is and how it stands: side by side in two columns, or below each other where that is too wide."""
    from rich.cells import cell_len
    from rich.text import Text

    cleaned = [(_plain(console, label), _plain(console, said), style) for label, said, style in rows]
    widest = max((cell_len(label) for label, _, _ in cleaned), default=0)
    if widest + max((cell_len(said) for _, said, _ in cleaned), default=0) + 4 <= console.width:
        for label, said, style in cleaned:
            yield Text.assemble("  ", (label, style), " " * (widest - cell_len(label) + 2), (said, style))
        return
    for label, said, style in cleaned:
        yield from _wrapped(console, f"  {label}", style, indent=4)
        yield from _wrapped(console, f"    {said}", style, indent=4)


def _more(console: Console, hidden: int) -> Iterator[Text]:
    if hidden > 0:
        yield from _wrapped(console, f"  and {hidden:,} more", "dim")


def _head(console: Console, text: str, style: str = "bold") -> Iterable[Text]:
    from rich.text import Text

    return [Text(""), *_wrapped(console, text, style)]


def _wrapped(console: Console, text: str, style: str = "", indent: int = 0) -> Iterator[Text]:
    """Lines of at most the console's width, the later ones indented; the text is never read as markup."""
    from rich.text import Text

    clean = _plain(console, text)
    lead = clean[: len(clean) - len(clean.lstrip(" "))]
    for at, line in enumerate(Text(clean.lstrip(" "), style=style).wrap(console, max(10, console.width - indent))):
        line.rstrip()
        yield Text(" " * indent if at else lead) + line


def _plain(console: Console, text: str) -> str:
    """The text in what the terminal can show: a console without UTF-8 gets plain letters."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    if not console.options.ascii_only:
        return clean
    return clean.translate(_PLAIN).encode("ascii", "replace").decode("ascii")
