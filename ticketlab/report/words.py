"""How numbers and verdicts are written: the same words in the terminal, on the page and in tables."""

from __future__ import annotations

from ticketlab.report.reading import Row, number, pair

# verdict of the results document -> (words for people, short key for CSS classes)
VERDICTS = {
    "uses": ("uses it", "uses"),
    "does not use": ("does not use it", "not"),
    "better without": ("better without", "better"),
    "undecided": ("undecided", "undecided"),
    "void": ("void", "void"),
}


def verdict(row: Row) -> str:
    """The verdict in words; a row without one is pending, or has a note that says why there is none."""
    name = row.get("verdict")
    if name is None and row.get("note"):
        return "none"
    return VERDICTS.get(str(name), (str(name or "pending"), ""))[0]


def verdict_key(row: Row) -> str:
    """A short name of the verdict for style sheets."""
    return VERDICTS.get(str(row.get("verdict")), ("", "pending"))[1]


def points(value: object, sign: bool = False) -> str:
    """Accuracy points with two decimals, or nothing for a missing number."""
    found = number(value)
    if found is None:
        return ""
    text = f"{found:+.2f}" if sign else f"{found:.2f}"
    return text[1:] if text == "-0.00" else "0.00" if text in ("+0.00", "+-0.00") else text


def interval(low: object, high: object) -> str:
    """`0.12 to 1.50`, or nothing where there is no interval."""
    return f"{points(low)} to {points(high)}" if number(low) is not None and number(high) is not None else ""


def percent(share: object, digits: int = 3) -> str:
    """0.98 as 98%, 0.998 as 99.8%: as many decimals as the number has, at most `digits`."""
    found = number(share)
    return "" if found is None else f"{round(100 * found, digits):g}%"


def short(value: object) -> str:
    """Any plain value as text: numbers without noise, lists with commas, yes and no."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(short, value))
    return str(value)


def p_value(value: object) -> str:
    """A p-value or a cut-off, never rounded to zero."""
    found = number(value)
    return "" if found is None else "< 0.0001" if 0 <= found < 0.0001 else f"{found:.4f}"


def duration(seconds: float) -> str:
    """`8s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    whole = max(0, round(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole}s"
    if hours < 1:
        return f"{minutes}m {whole % 60:02d}s"
    return f"{hours}h {minutes % 60:02d}m" if days < 1 else f"{days}d {hours % 24}h"


def collapsed(row: Row) -> str:
    """`at chance: 0 of 5 original, 3 of 5 tampered`, or nothing when every ticket trained."""
    original, tampered = pair(row.get("dead"))
    if not original and not tampered:
        return ""
    n = number(row.get("n"))
    of = f" of {n:g}" if n is not None else ""
    return f"at chance: {original or 0:g}{of} original, {tampered or 0:g}{of} tampered"


def stragglers(row: Row) -> str:
    """`1 straggler`, or nothing; counted in one number or by arm."""
    found = row.get("stragglers")
    count = sum(filter(None, pair(found))) if isinstance(found, (list, tuple)) else number(found)
    return f"{count:g} straggler{'' if count == 1 else 's'}" if count else ""


def circumstances(row: Row) -> list[str]:
    """What stands beside a verdict: its qualifier, its reason, collapsed tickets, the seeds that would decide."""
    reason = str(row.get("reason") or "")
    said = [str(row.get("qualifier") or ""), *reason.split("; "), str(row.get("note") or "")]
    if "at chance" not in reason:
        said.append(collapsed(row))
    if "straggler" not in reason:
        said.append(stragglers(row))
    if row.get("verdict") == "undecided" and seeds_needed(row) and "needed" not in reason:
        said.append(f"needs {seeds_needed(row)} seeds")
    return [text for text in said if text]


def seeds_needed(row: Row) -> str:
    """How many seeds in all would decide an undecided row, with the range that the spread leaves open."""
    low, best, high = pair(row.get("seeds_needed"), 3)
    if best is None:
        return ""
    span = f" ({low:g} to {high:g})" if low is not None and high is not None else ""
    return f"about {best:g}{span}"
