"""What is fixed before the first run: the looks and the margin."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ticketlab.errors import InputError
from ticketlab.stats.comparison import FEWEST_SEEDS

MANY_IMAGES = 2000
FEWEST_IMAGES = 3


def plan_looks(
    seeds: int, final: bool = False, until_decided: bool = False
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The seed counts at which verdicts may fall, and the share of alpha spent at each.

    `final` spends everything at `seeds`; otherwise a fifth is kept in reserve, so that adding seeds later keeps
    the level. `until_decided` looks at 3, 5, 8, 12 and 20 seeds, whatever `seeds` is.
    """
    if final and until_decided:
        raise InputError("asked for a final look, got a plan that goes on until decided. Choose one of the two.")
    if until_decided:
        return (3, 5, 8, 12, 20), (0.05, 0.10, 0.20, 0.25, 0.40)
    if seeds < FEWEST_SEEDS:
        raise InputError(f"asked for a verdict, got {seeds} seeds. No verdict is possible below {FEWEST_SEEDS}.")
    if final:
        return (seeds,), (1.0,)
    return (seeds, 2 * seeds, 4 * seeds), (0.8, 0.1, 0.1)


def resolve_margin(asked: str | float | None, test_size: int, chance: float, dense: Sequence[float] | None) -> float:
    """The margin in points: as asked, "2%" of what the dense net gains over chance, or the default.

    The default is 0.5 points from 2,000 test images on, below that 2% of (dense - chance). `chance` and `dense`
    are in percent. Raises `InputError` for a share without a dense run and for a margin below three test images.
    """
    text = ("0.5" if test_size >= MANY_IMAGES else "2%") if asked is None else str(asked).strip()
    share = text.endswith("%")
    try:
        margin = float(text.removesuffix("%"))
    except ValueError:
        raise InputError(f'asked for a margin, got {text!r}. Write points ("0.5") or a share ("2%").') from None
    if share:
        runs = [a for a in dense or () if math.isfinite(a)]
        if not runs:
            raise InputError(
                f"asked for a margin of {text} of what the dense net gains over chance, got no finished dense run. "
                "Add a dense run or give the margin in points."
            )
        margin *= (math.fsum(runs) / len(runs) - chance) / 100
    least = 100 * FEWEST_IMAGES / test_size
    # A margin of exactly three images is asked for in rounded decimals.
    if not least * (1 - 1e-9) <= margin < math.inf:
        raise InputError(
            f"asked for a margin of {text}{'' if share else ' points'}, got {margin:.3g} points: "
            f"{margin * test_size / 100:.1f} of your {test_size} test images. "
            f"At least {FEWEST_IMAGES} images ({least:.3g} points) are needed."
        )
    return margin
