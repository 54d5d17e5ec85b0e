"""Just enough SVG for the figures of the page: elements, a linear scale, round ticks, markers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

COLOURS = 8
SHAPES = ("circle", "square", "triangle", "diamond")


def tag(name: str, *content: str, **attributes: object) -> str:
    """One element; `_` in attribute names stands for `-`, a trailing one is dropped. Content must be SVG already."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{pairs}>{''.join(content)}</{name}>" if content else f"<{name}{pairs}/>"


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def text(x: float | str, y: float | str, content: object, **attributes: object) -> str:
    """A text element; the content may come from a user."""
    return tag("text", escape(str(content)), x=x, y=y, **attributes)


def title(content: str) -> str:
    """The tooltip of the element it stands in."""
    return tag("title", escape(content))


def figure(width: float, height: float, label: str, *content: str, **attributes: object) -> str:
    """A whole figure with its text alternative."""
    return tag("svg", *content, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, **attributes)


class Scale:
    """From data to a length between `start` and `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers inside the range, about so many."""
        rough = (self.high - self.low) / max(1, about)
        power = 10.0 ** math.floor(math.log10(rough))
        step = min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]


def marker(shape: str, x: float, y: float, r: float, **attributes: object) -> str:
    """A point: one of SHAPES, a cross, or `below`, a triangle that points down."""
    if shape == "circle":
        return tag("circle", cx=x, cy=y, r=r, **attributes)
    if shape == "cross":
        d = f"{2 * r:g}"
        return tag("path", d=f"M{x - r:.1f} {y - r:.1f}l{d} {d}m0 -{d}l-{d} {d}", **attributes)
    corners: dict[str, list[tuple[float, float]]] = {
        "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        "triangle": [(0, -1.25), (1.15, 0.9), (-1.15, 0.9)],
        "below": [(0, 1.25), (1.15, -0.9), (-1.15, -0.9)],
        "diamond": [(0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)],
    }
    path = "L".join(f"{x + dx * r * 0.9:.1f} {y + dy * r * 0.9:.1f}" for dx, dy in corners[shape])
    return tag("path", d=f"M{path}Z", **attributes)


def line(points: Iterable[tuple[float, float]], **attributes: object) -> str:
    """A line through points."""
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), **attributes)


def style(index: int) -> tuple[str, str]:
    """The colour class and the shape of the series number `index`: no two of 32 are alike."""
    return f"c{index % COLOURS}", SHAPES[(index + index // COLOURS) % len(SHAPES)]


def swatch(index: int) -> str:
    """A small marker for a legend."""
    colour, shape = style(index)
    return tag("svg", marker(shape, 6, 6, 4), viewBox="0 0 12 12", class_=f"swatch {colour}", aria_hidden="true")
