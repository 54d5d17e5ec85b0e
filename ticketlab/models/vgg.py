"""VGG with batch norm (Simonyan & Zisserman 2015) in the form that pruning papers train on CIFAR.

One linear layer instead of three, and global average pooling instead of the fifth max pooling.
"""

from __future__ import annotations

from torch import Tensor, nn

from ticketlab.models.init import kaiming_in

_BLOCKS = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """`depth` layers; images (N, C, H, W) of any size, best 16x16 or more, to (N, classes).

    `slimmer` divides the number of filters of every layer.
    """

    def __init__(self, depth: int, num_classes: int, channels: int, slimmer: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block, (convs, width) in enumerate(zip(_BLOCKS[depth], _WIDTHS, strict=True)):
            width //= slimmer
            if block:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            for _ in range(convs):
                convolution = nn.Conv2d(channels, width, 3, padding=1)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        kaiming_in(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def vgg11(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """8 convolutions and one linear layer."""
    return VGG(11, num_classes, in_shape[0])


def vgg16(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """13 convolutions and one linear layer."""
    return VGG(16, num_classes, in_shape[0])


def vgg19(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """16 convolutions and one linear layer: the VGG-19 of GraSP (2020) and Su et al. (2020)."""
    return VGG(19, num_classes, in_shape[0])


def vgg19_slim(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """VGG-19 with an eighth of the filters: a small net for quick trials."""
    return VGG(19, num_classes, in_shape[0], slimmer=8)
