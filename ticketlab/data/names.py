"""Which data sets exist. Imports no torch, so that `--help` and `list` stay quick."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """What is true of a data set before it is read.

    `shape` is (channels, height, width); `mean` and `std` are per channel, with pixels in [0, 1]; `pad` and
    `flip` are the usual training augmentation; `needs` is the pip extra that reading it may take.
    """

    summary: str
    classes: int
    shape: tuple[int, int, int]
    source: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pad: int = 0
    flip: bool = False
    needs: str | None = None


DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        summary="1,797 handwritten digits, 8x8 grey; inside scikit-learn, nothing to download",
        classes=10,
        shape=(1, 8, 8),
        source="Alpaydin & Kaynak 1998, UCI Optical Recognition of Handwritten Digits",
        mean=(0.3058,),
        std=(0.3761,),
    ),
    "fashion-mnist": DatasetInfo(
        summary="70,000 pictures of clothes, 28x28 grey",
        classes=10,
        shape=(1, 28, 28),
        source="Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747",
        mean=(0.2860,),
        std=(0.3530,),
        needs="data",
    ),
    "cifar10": DatasetInfo(
        summary="60,000 photographs of 10 kinds of things, 32x32 RGB",
        classes=10,
        shape=(3, 32, 32),
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        pad=4,
        flip=True,
        needs="data",
    ),
    "cifar100": DatasetInfo(
        summary="60,000 photographs of 100 kinds of things, 32x32 RGB",
        classes=100,
        shape=(3, 32, 32),
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        pad=4,
        flip=True,
        needs="data",
    ),
    "tiny-imagenet": DatasetInfo(
        summary="110,000 photographs of 200 kinds of things, 64x64 RGB",
        classes=200,
        shape=(3, 64, 64),
        source="Le & Yang 2015, Tiny ImageNet Visual Recognition Challenge (Stanford CS231n)",
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
        pad=4,
        flip=True,
        needs="data",
    ),
}
