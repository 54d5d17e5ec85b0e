"""Draws with replacement in proportion to probabilities, for any number of coordinates (no limit of 2^24).

The unit interval is cut where the probabilities add up to, and a uniform number falls into one of the pieces. Finding
the piece by bisection is slow where millions of draws are made. So the interval is also cut into many equal cells, and
a table says for each cell which piece it lies in. The few cells that hold a cut are bisected, as without the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Cells of the table, integers of 32 bits: for each coordinate, at least (they fit the processor's cache), and at most.
_CELLS_EACH = 16
_LEAST_CELLS = 1 << 16
_MOST_CELLS = 1 << 24
# From how many draws for each cell on the table pays off.
_DRAWS_EACH = 4


class Draws:
    """Independent draws of coordinates from probabilities ``p`` (d,), on the CPU or the device of the generator."""

    def __init__(self, p: Tensor, expected: int, generator: torch.Generator) -> None:
        """``expected``: about how many draws are going to be made; a table pays off where they are many."""
        self._generator = generator
        self._ends = ends_of(p.to(generator.device))
        cells = max(_LEAST_CELLS, 1 << (_CELLS_EACH * len(p) - 1).bit_length())
        self._cells = cells if cells <= min(_MOST_CELLS, expected // _DRAWS_EACH) else 0
        if self._cells:
            self._piece = _pieces(self._ends, cells)

    def take(self, count: int) -> Tensor:
        """The next ``count`` draws, int32 (count,)."""
        if not self._cells:
            return bisect(self._ends, (count,), self._generator)
        cell = _random_integers(count, self._cells, self._generator)
        index = self._piece.index_select(0, cell)
        cut = (index < 0).nonzero().squeeze(1)
        within = torch.rand(len(cut), generator=self._generator, dtype=torch.float64, device=index.device)
        place = within.add_(cell.index_select(0, cut)).div_(self._cells).clamp_max_(_BELOW_ONE)
        return index.index_copy_(0, cut, torch.searchsorted(self._ends, place, right=True, out_int32=True))


def ends_of(p: Tensor) -> Tensor:
    """Where the piece of each coordinate ends, (..., d), the last at 1.

    In float64: in float32, a sum over many coordinates loses the small ones. Pieces of probability zero are empty, and
    no uniform number reaches past the last piece.
    """
    ends = p.double().cumsum(-1)
    return ends.div_(ends[..., -1:].clone())


def bisect(ends: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws from one row of ends (d,), or from each row of (..., d), as int32 (..., draws)."""
    u = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    return torch.searchsorted(ends, u, right=True, out_int32=True)


def _pieces(ends: Tensor, cells: int) -> Tensor:
    """The coordinate whose piece holds a cell, int32 (cells,); -1 for a cell that holds a cut."""
    starts = torch.arange(cells, dtype=torch.float64, device=ends.device).div_(cells)
    piece = torch.searchsorted(ends, starts, right=True, out_int32=True)
    # Cells are a power of two, so that this product is exact; ends at 1 are no cuts.
    piece[(ends[ends < 1] * cells).long()] = -1
    return piece


def _random_integers(count: int, below: int, generator: torch.Generator) -> Tensor:
    """Uniform integers, int32 (count,), below a power of two: several from each 64 random bits."""
    part, parts = (torch.int16, 4) if below <= 1 << 16 else (torch.int32, 2)
    bits = torch.empty(-(-count // parts), dtype=torch.int64, device=generator.device)
    bits.random_(-(1 << 63), None, generator=generator)
    return bits.view(part)[:count].to(torch.int32).bitwise_and_(below - 1)


_BELOW_ONE = 1 - 2.0**-53
