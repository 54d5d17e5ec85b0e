"""Residual nets for CIFAR (He et al. 2016, section 4.2): depth 6n + 2, basic blocks, projection shortcuts."""

from __future__ import annotations

from torch import Tensor, nn

from ticketlab.models.init import kaiming_out


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out = out + (x if self.downsample is None else self.downsample(x))
        activated: Tensor = self.relu(out)
        return activated


class ResNet(nn.Module):
    """Three groups of `blocks` blocks with the given widths; any (N, C, H, W) to (N, classes)."""

    def __init__(self, blocks: int, widths: tuple[int, int, int], num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = _group(blocks, widths[0], widths[0], stride=1)
        self.layer2 = _group(blocks, widths[0], widths[1], stride=2)
        self.layer3 = _group(blocks, widths[1], widths[2], stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], num_classes)
        kaiming_out(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.pool(self.layer3(self.layer2(self.layer1(x)))).flatten(1)
        logits: Tensor = self.fc(x)
        return logits


def _group(blocks: int, channels: int, width: int, stride: int) -> nn.Sequential:
    first = Block(channels, width, stride)
    return nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1)))


def resnet20(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """20 layers, 16-32-64 filters."""
    return ResNet(3, (16, 32, 64), num_classes, in_shape[0])


def resnet32(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """32 layers, 16-32-64 filters."""
    return ResNet(5, (16, 32, 64), num_classes, in_shape[0])


def resnet56(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """56 layers, 16-32-64 filters."""
    return ResNet(9, (16, 32, 64), num_classes, in_shape[0])


def resnet32_su2020(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """32 layers, 32-64-128 filters: the doubled ResNet-32 of GraSP (2020) and Su et al. (2020)."""
    return ResNet(5, (32, 64, 128), num_classes, in_shape[0])


def resnet14_slim(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """14 layers, 8-16-32 filters: a small net for quick trials."""
    return ResNet(2, (8, 16, 32), num_classes, in_shape[0])
