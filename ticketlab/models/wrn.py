"""Wide residual nets (Zagoruyko & Komodakis 2016, arXiv 1605.07146): depth 6n + 4, pre-activation blocks."""

from __future__ import annotations

from torch import Tensor, nn

from ticketlab.models.init import kaiming_out


class WideBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; a 1x1 shortcut where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.bn1(x))
        out: Tensor = self.conv2(self.relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """`depth` layers of width 16k-32k-64k; images (N, C, H, W) of any size to (N, classes)."""

    def __init__(self, depth: int, k: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        blocks = (depth - 4) // 6
        self.layer1 = _group(blocks, 16, 16 * k, stride=1)
        self.layer2 = _group(blocks, 16 * k, 32 * k, stride=2)
        self.layer3 = _group(blocks, 32 * k, 64 * k, stride=2)
        self.bn = nn.BatchNorm2d(64 * k)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * k, num_classes)
        kaiming_out(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        logits: Tensor = self.fc(self.pool(self.relu(self.bn(x))).flatten(1))
        return logits


def _group(blocks: int, channels: int, width: int, stride: int) -> nn.Sequential:
    first = WideBlock(channels, width, stride)
    return nn.Sequential(first, *(WideBlock(width, width, 1) for _ in range(blocks - 1)))


def wrn_16_4(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """16 layers, four times as wide: 2.7 million weights."""
    return WideResNet(16, 4, num_classes, in_shape[0])


def wrn_28_10(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """28 layers, ten times as wide: 36.5 million weights."""
    return WideResNet(28, 10, num_classes, in_shape[0])
