"""How errors over many powers of ten are written."""

from __future__ import annotations

import math


def figures(value: float | None, digits: int = 3) -> str:
    """So many digits: ``0.0123``, ``6.36``, ``47.3``, ``1,230``, ``1.2e6``; nothing for a missing number."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if power >= 5 or power < -4:
        mantissa = f"{value / 10.0**power:.1f}"
        return f"{mantissa}e{power}" if abs(float(mantissa)) < 10 else f"1.0e{power + 1}"
    rounded = round(value, digits - 1 - power)
    # Rounding may reach the next power of ten: 99.99 is 100.
    power = math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, digits - 1 - power)}f}"


def with_interval(value: float | None, half: float | None) -> str:
    """``0.55±0.01``: half an interval to about one digit, the value to at least two, both to the same place."""
    if value is None or half is None:
        return ""
    if half <= 0 or max(abs(value), half) >= 1e5:
        return figures(value) + ("" if half <= 0 else f"±{figures(half, 1)}")
    least = 1 - math.floor(math.log10(abs(value))) if value else 0
    places = min(max(-math.floor(math.log10(half)), least, 0), 4)
    return f"{value:,.{places}f}±{half:,.{places}f}"


def count(value: float) -> str:
    """A number of draws or weights: whole, with commas, short where it is huge."""
    return f"{math.ceil(value):,}" if value < 1e6 else figures(value)


def share(part: float, whole: float) -> str:
    """``9.4%``, ``140%``; in times where there are many."""
    ratio = part / whole
    return f"{figures(100 * ratio, 2)}%" if ratio < 10 else f"{figures(ratio, 2)} times"
