"""One table of small models, each with a batch of data: every generic test of the core runs over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CLASSES = 3
BATCH = 6


class Flat(nn.Module):
    """The mean over all dimensions after the second."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


class Depthwise(nn.Sequential):
    """A depthwise and a pointwise convolution, as in MobileNet."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 6, 1),
            nn.Conv2d(6, 6, 3, padding=1, groups=6),
            nn.ReLU6(),
            nn.Conv2d(6, 5, 1),
            Flat(),
            nn.Linear(5, CLASSES),
        )


class Residual(nn.Module):
    """One residual block whose shortcut is a strided 1x1 convolution, registered last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 5, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(5)
        self.downsample = nn.Sequential(nn.Conv2d(3, 5, 1, stride=2, bias=False), nn.BatchNorm2d(5))
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        main = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return self.head(torch.relu(main + self.downsample(x)).mean((2, 3)))


class TiedLinears(nn.Module):
    """Two linear layers that share one square weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.again = nn.Linear(6, 6)
        self.again.weight = self.first.weight
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.again(torch.relu(self.first(x)))))


class TiedEmbedding(nn.Module):
    """A language model: the embedding's weight is the output layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.mix = nn.Linear(5, 5)
        self.out = nn.Linear(5, 9, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(torch.tanh(self.mix(self.embed(tokens).mean(1))))


class Attention(nn.Module):
    """One block of self-attention; with ``fast`` by the fused kernel, which has no second derivative."""

    def __init__(self, fast: bool = False, **dims: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True, **dims)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, CLASSES)
        self.fast = fast

    def forward(self, x: Tensor) -> Tensor:
        kept = self.attend.kdim
        mixed, _ = self.attend(x, x[..., :kept], x[..., :kept], need_weights=not self.fast)
        return self.head(self.norm(x + mixed).mean(1))


class OwnConv(nn.Conv2d):
    """A user's convolution."""


class OwnLinear(nn.Linear):
    """A user's linear layer."""


def _initialised(model: nn.Module) -> nn.Module:
    """Norms and biases away from one and zero, and running statistics as after some training."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point() and tensor.dim() < 2:
                noise = 0.1 * torch.randn(tensor.shape, generator=draw, dtype=tensor.dtype)
                tensor.copy_(tensor + (noise.abs() if "var" in name else noise))
    return model


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, CLASSES))


def conv_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(45, CLASSES),
    )


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), Flat(), nn.Linear(6, CLASSES)
    )


def conv1d() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 5, 3), nn.ReLU(), nn.Conv1d(5, 4, 3, stride=2), Flat(), nn.Linear(4, CLASSES))


def conv3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 3, 2), nn.BatchNorm3d(3), nn.ReLU(), nn.Conv3d(3, 4, 2), Flat(), nn.Linear(4, CLASSES)
    )


def transposed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 3, stride=2),
        nn.ReLU(),
        Flat(),
        nn.Linear(3, CLASSES),
    )


def no_bias() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 8, bias=False), nn.ReLU(), nn.Linear(8, CLASSES, bias=False))


def subclassed() -> nn.Module:
    return nn.Sequential(OwnConv(2, 4, 3), nn.ReLU(), OwnConv(4, 4, 3), Flat(), OwnLinear(4, CLASSES))


def dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(7, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, CLASSES)
    )


@dataclass(frozen=True)
class Exhibit:
    """A model with what it reads.

    Attributes:
        make: the model, freshly drawn.
        shape: of one input.
        vocabulary: of inputs that are tokens; 0 for real inputs.
        classes: of the targets.
        refused: methods that cannot score this model, each with a part of the ``InputError`` that says so.
        infeasible: per-layer budgets that this model's layers cannot meet at sparsity 0.5.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    vocabulary: int = 0
    classes: int = CLASSES
    dtype: torch.dtype = torch.float32
    refused: tuple[tuple[str, str], ...] = ()

    def model(self, seed: int = 0) -> nn.Module:
        """The model with weights drawn from a seed; the global random state stays."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _initialised(self.make()).to(self.dtype)

    def batch(self, seed: int = 0, size: int = BATCH) -> tuple[Tensor, Tensor]:
        """Inputs and targets."""
        draw = torch.Generator().manual_seed(seed + 1000)
        shape = (size, *self.shape)
        if self.vocabulary:
            inputs = torch.randint(self.vocabulary, shape, generator=draw)
        else:
            inputs = torch.randn(shape, generator=draw).to(self.dtype)
        return inputs, torch.randint(self.classes, (size,), generator=draw)

    def data(self, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
        """Two batches."""
        return [self.batch(seed), self.batch(seed + 1)]


_IMAGE = (2, 6, 6)
_VECTOR = (7,)

ZOO: dict[str, Exhibit] = {
    "mlp": Exhibit(mlp, _VECTOR),
    "conv-norm": Exhibit(conv_norm, _IMAGE),
    "depthwise": Exhibit(Depthwise, _IMAGE),
    "grouped": Exhibit(grouped, _IMAGE),
    "residual": Exhibit(Residual, _IMAGE),
    "tied-linears": Exhibit(TiedLinears, (6,)),
    "tied-embedding": Exhibit(
        TiedEmbedding,
        (4,),
        vocabulary=9,
        classes=9,
        # It feeds ones, and an embedding reads integers.
        refused=((("synflow", "synflow-l2"), "synflow feeds"),),
    ),
    "conv1d": Exhibit(conv1d, (3, 8)),
    "conv3d": Exhibit(conv3d, (1, 4, 4, 4)),
    "transposed": Exhibit(transposed, _IMAGE),
    "attention": Exhibit(Attention, (5, 4)),
    "attention-fast": Exhibit(lambda: Attention(fast=True), (5, 4)),
    "attention-dims": Exhibit(lambda: Attention(kdim=3, vdim=3), (5, 4)),
    "no-bias": Exhibit(no_bias, _VECTOR),
    "float64": Exhibit(conv_norm, _IMAGE, dtype=torch.float64),
    "bfloat16": Exhibit(conv_norm, _IMAGE, dtype=torch.bfloat16),
    "half": Exhibit(mlp, _VECTOR, dtype=torch.float16),
    "subclassed": Exhibit(subclassed, _IMAGE),
    "dropout": Exhibit(dropout, _VECTOR),
}
