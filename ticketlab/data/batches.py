"""From stored examples to what a model sees: order, augmentation, normalisation, scoring batches.

Every random draw comes from the generator that is passed in, on the generator's own device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad as zero_pad

from ticketlab.data.types import Augment, Data, Split
from ticketlab.errors import InputError


def order(n: int, generator: Generator) -> Tensor:
    """A random order of n examples: a permutation of 0..n-1, int64 (n,)."""
    return torch.randperm(n, generator=generator, device=generator.device)


def epoch_batches(n: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """The positions of each batch of one epoch. Every example comes once; the last batch may be smaller."""
    if batch_size < 1:
        raise InputError(f"asked for batches of {batch_size} examples; a batch needs at least one")
    return iter(torch.split(order(n, generator), batch_size))


def prepare(data: Data, inputs: Tensor, *, generator: Generator | None = None, augment: bool = False) -> Tensor:
    """Stored inputs (N, ...) as the float32 tensor a model takes, on the device of `inputs`.

    With `augment`, `data.augment` is applied first, with one draw for each image.
    """
    if augment and (data.augment.pad or data.augment.flip):
        drawn = draws(len(inputs), data.augment, generator).to(inputs.device)
        inputs = augmented(inputs, drawn, data.augment.pad)
    return normalised(data, inputs)


def normalised(data: Data, inputs: Tensor) -> Tensor:
    """Stored inputs as float32, normalised as the data says."""
    if data.affine is None:
        return inputs.float()
    scale, shift = (t.to(inputs.device) for t in data.affine)
    return inputs.float() * scale + shift


@dataclass(frozen=True)
class Draws:
    """What augmentation does to each of N images: `crop` (2, N) row and column offsets, `flip` (N,); None: not."""

    crop: Tensor | None
    flip: Tensor | None

    def to(self, device: torch.device | str) -> Draws:
        """The same draws on `device`."""
        return Draws(*(t if t is None else t.to(device) for t in (self.crop, self.flip)))

    def part(self, where: slice) -> Draws:
        """The draws of some of the images."""
        return Draws(*(t if t is None else t[..., where] for t in (self.crop, self.flip)))

    @staticmethod
    def joined(parts: Sequence[Draws]) -> Draws:
        """The draws of several batches, one after another."""
        crops = [d.crop for d in parts if d.crop is not None]
        flips = [d.flip for d in parts if d.flip is not None]
        return Draws(torch.cat(crops, 1) if crops else None, torch.cat(flips) if flips else None)


def draws(n: int, augment: Augment, generator: Generator | None) -> Draws:
    """One draw for each of n images, on the generator's device."""
    where = generator.device if generator else None
    crop = torch.randint(2 * augment.pad + 1, (2, n), generator=generator, device=where) if augment.pad else None
    flip = torch.randint(2, (n,), generator=generator, device=where).bool() if augment.flip else None
    return Draws(crop, flip)


def augmented(images: Tensor, drawn: Draws, pad: int) -> Tensor:
    """Images (N, C, H, W) cropped out of themselves padded by `pad` zeros, and flipped left to right, as drawn."""
    if drawn.crop is not None:
        _, _, height, width = images.shape
        windows = zero_pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(len(images), device=images.device), :, drawn.crop[0], drawn.crop[1]]
    if drawn.flip is not None:
        images = torch.where(drawn.flip.view(-1, 1, 1, 1), images.flip(3), images)
    return images


def rank_in_class(targets: Tensor) -> Tensor:
    """For each example, how many examples of its class come before it: int64 (N,)."""
    by_class = targets.argsort(stable=True)
    counts = torch.bincount(targets)
    first = (counts.cumsum(0) - counts)[targets[by_class]]
    ranks = torch.empty_like(targets)
    ranks[by_class] = torch.arange(len(targets), device=targets.device) - first
    return ranks


def scoring_batches(
    split: Split, data: Data, *, per_class: int, parts: int, generator: Generator
) -> list[tuple[Tensor, Tensor]]:
    """A class-balanced random sample for a pruning score, normalised and not augmented.

    `per_class` examples of every class (all of them where a class has fewer), ordered by class and cut into
    `parts` pieces whose sizes differ by at most one. Raises InputError if that leaves a piece empty.
    """
    shuffled = order(len(split), generator).to(split.targets.device)
    chosen = shuffled[rank_in_class(split.targets[shuffled]) < per_class]
    chosen = chosen[split.targets[chosen].argsort(stable=True)]
    if not 1 <= parts <= len(chosen):
        raise InputError(
            f"asked for {per_class} examples per class in {parts} parts; "
            f"{len(chosen)} examples make 1 to {len(chosen)} parts"
        )
    sample = split.take(chosen)
    inputs = prepare(data, sample.inputs).tensor_split(parts)
    return list(zip(inputs, sample.targets.tensor_split(parts), strict=True))
