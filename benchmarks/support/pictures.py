"""Images the way the papers' code feeds them: one at a time, as PIL pictures, through torch's DataLoader.

A port of what torchvision's CIFAR10, RandomCrop, RandomHorizontalFlip, ToTensor and Normalize do for each image.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ticketlab.data.types import Data


class Pictures(Dataset[tuple[Tensor, int]]):
    """The training images of a data set, cropped, flipped and normalised when they are asked for."""

    def __init__(self, data: Data) -> None:
        self._pixels = data.train.inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self._targets = data.train.targets.tolist()
        self._mean, self._std, self._pad = data.mean, data.std, data.augment.pad

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = flipped(cropped(Image.fromarray(self._pixels[index]), self._pad))
        return normalised(as_tensor(picture), self._mean, self._std), self._targets[index]


def cropped(picture: Image.Image, pad: int) -> Image.Image:
    """A random window of the old size in the picture with a black border of `pad` pixels."""
    width, height = picture.size
    bordered = ImageOps.expand(picture, border=pad, fill=0)
    left, top = (int(torch.randint(0, 2 * pad + 1, (1,)).item()) for _ in range(2))
    return bordered.crop((left, top, left + width, top + height))


def flipped(picture: Image.Image) -> Image.Image:
    """Mirrored left to right, every second time."""
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if torch.rand(1) < 0.5 else picture


def as_tensor(picture: Image.Image) -> Tensor:
    """Float32 (C, H, W) in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
    return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def normalised(image: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Minus the channels' means, over their deviations."""
    return image.clone().sub_(torch.tensor(mean).view(-1, 1, 1)).div_(torch.tensor(std).view(-1, 1, 1))


def loader(data: Data, batch_size: int, processes: int = 0) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches, made by this process or by `processes` others."""
    return DataLoader(Pictures(data), batch_size=batch_size, shuffle=True, num_workers=processes)
