"""Small nets with the structure of well-known ones, for all that comes elsewhere than after the only use of a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab.models.wrn import WideResNet

Shape = tuple[int, int, int]


class _Block(nn.Module):
    """Residual blocks of torchvision's ResNets: two 3x3 convolutions, or 1x1, 3x3 and 1x1."""

    def __init__(self, channels: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = [nn.Conv2d(channels, width, 3, stride, 1, bias=False)]
        if outputs != width:
            middle = [nn.Conv2d(channels, width, 1, bias=False), nn.Conv2d(width, width, 3, stride, 1, bias=False)]
        last = nn.Conv2d(width, outputs, 3 if outputs == width else 1, padding=int(outputs == width), bias=False)
        self.convs = nn.ModuleList([*middle, last])
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.out_channels) for conv in self.convs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for conv, norm in zip(self.convs[:-1], self.norms[:-1], strict=True):
            out = self.relu(norm(conv(out)))
        out = self.norms[-1](self.convs[-1](out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def imagenet_resnet(num_classes: int, in_shape: Shape) -> nn.Module:
    """A stem with a 7x7 convolution and overlapping max-pooling; basic blocks, then bottlenecks."""
    return nn.Sequential(
        *(nn.Conv2d(in_shape[0], 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(3, 2, 1), _Block(8, 8, 8, 1), _Block(8, 12, 12, 2), _Block(12, 4, 16, 1), _Block(16, 4, 16, 1)),
        *(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(16, num_classes)),
    )


def preactivation(num_classes: int, in_shape: Shape) -> nn.Module:
    """Batch norm and ReLU before convolutions, and on tensors that a sum reads too."""
    return WideResNet(10, 1, num_classes, in_shape[0])


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: list[Tensor]) -> Tensor:
        found: Tensor = self.conv1(self.relu(self.norm1(torch.cat(features, 1))))
        found = self.conv2(self.relu(self.norm2(found)))
        return found


class DenseNet(nn.Module):
    """Layers that read everything before them, and transitions with average pools between blocks of them."""

    def __init__(self, num_classes: int, in_shape: Shape) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_shape[0], 6, 3, padding=1, bias=False)
        self.first = nn.ModuleList(_DenseLayer(6 + 4 * i, 4) for i in range(3))
        self.norm, self.transition = nn.BatchNorm2d(18), nn.Conv2d(18, 8, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)
        self.second = nn.ModuleList(_DenseLayer(8 + 4 * i, 4) for i in range(2))
        self.last, self.fc = nn.BatchNorm2d(16), nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.first:
            features.append(layer(features))
        x = self.pool(self.transition(functional.relu(self.norm(torch.cat(features, 1)))))
        features = [x]
        for layer in self.second:
            features.append(layer(features))
        x = functional.relu(self.last(torch.cat(features, dim=1)), inplace=True)
        logits: Tensor = self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), 1))
        return logits


class _Inception(nn.Module):
    """Branches of convolutions and poolings on one tensor, joined along channels."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, width, 1)
        self.three = nn.Sequential(
            *(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, width, 3, padding="same"),
        )
        self.largest = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), nn.ReLU(), nn.Conv2d(channels, width, 1))
        self.norm = nn.BatchNorm2d(3 * width + channels)

    def forward(self, x: Tensor) -> Tensor:
        mean = functional.avg_pool2d(x, (3, 1), stride=1, padding=(1, 0))
        found: Tensor = self.norm(torch.relu(torch.cat([self.one(x), self.three(x), self.largest(x), mean], 1)))
        return found


def inception(num_classes: int, in_shape: Shape) -> nn.Module:
    """Poolings before and after ReLUs, one over an odd edge; what is joined has a ReLU and then a batch norm."""
    return nn.Sequential(
        *(nn.Conv2d(in_shape[0], 8, 3, padding="valid"), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU()),
        *(_Inception(8, 4), nn.MaxPool2d((2, 3), (2, 1), (0, 1)), _Inception(20, 3)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(29, num_classes)),
    )


class Anywhere(nn.Module):
    """Sums, norms and ReLUs of tensors that others read too, also under other names, and twice of the same one."""

    def __init__(self, num_classes: int, in_shape: Shape) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(in_shape[0])
        self.one = nn.Conv2d(in_shape[0], 6, 5, padding="same", dilation=2)
        self.two = nn.Conv2d(6, 6, 3, padding="same", bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))
        self.same, self.relu = nn.Identity(), nn.ReLU(inplace=True)
        self.vectors, self.fc = nn.BatchNorm1d(6), nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.before(x))
        y = self.two(self.norms[0](self.same(x)))
        z = self.norms[1](self.norms[2](x + y) + y)
        y = z + y
        z = y + x
        # From here on y is what the ReLU made of it.
        z = self.relu(y) + z + y
        z = functional.max_pool2d(z, 2) + functional.avg_pool2d(z, kernel_size=2)
        z = torch.relu(z + z).mean((2, 3))
        logits: Tensor = self.fc(torch.relu(self.vectors(z)) + z)
        return logits
