"""What `engine.py` measures: the rows, their targets, and the random data, masks and nets that they train."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ticketlab.data.types import Augment, Data, Split
from ticketlab.engine.recipe import Recipe
from ticketlab.mask import Mask
from ticketlab.models.registry import build
from ticketlab.seeding import isolated

CLASSES, SPARSITY = 10, 0.95
# A small constant step, so that random labels make no weight grow without bound; the schedule costs no time anyway.
RECIPE = Recipe(epochs=10_000, batch_size=64, lr=0.01, momentum=0.9, weight_decay=1e-4, schedule="constant")
PACKS = ("stacked:2", "stacked:8")


@dataclass(frozen=True)
class Work:
    """One row.

    Attributes:
        at_least: the target for the ratio engine / baseline (for `h200-...`: at most so many seconds per ticket).
        precisions: what the engine may use. The baseline is always fp32.
        engines: the candidates, of which the fastest is measured; `compiled` ones are tried only when asked for.
        loop: the baseline, a function of `plain_loop`.
        honest: the share of the fp32 peak below which the baseline is too weak for its ratio to mean anything.
    """

    model: str
    shape: tuple[int, int, int]
    at_least: float
    precisions: tuple[str, ...]
    engines: tuple[str, ...]
    compiled: tuple[str, ...] = ()
    loop: str = "papers_loop"
    honest: float | None = None


_CIFAR, _GREY, _DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)
_BOTH, _FP32 = ("fp32", "bf16"), ("fp32",)
_RESNET, _VGG = ("tuned",), ("tuned", "tuned+im2col")

WORK = {
    "resnet32-bf16": Work("resnet32-su2020", _CIFAR, 4.1, _BOTH, _RESNET, ("compiled",), honest=0.5),
    "vgg19-bf16": Work("vgg19", _CIFAR, 3.0, _BOTH, _VGG, honest=0.6),
    "resnet20-sweep-bf16": Work("resnet20", _CIFAR, 3.4, _BOTH, _RESNET, ("compiled",), loop="tensor_loop"),
    "mlp-sweep-bf16": Work("mlp", _GREY, 4.2, _BOTH, ("tuned", *PACKS), loop="tensor_loop"),
    "conv-sweep-bf16": Work("conv", _DIGITS, 4.0, _BOTH, ("tuned", "tuned+im2col", *PACKS), loop="tensor_loop"),
    "resnet32-fp32": Work("resnet32-su2020", _CIFAR, 1.2, _FP32, _RESNET, ("compiled",), honest=0.5),
    "vgg19-fp32": Work("vgg19", _CIFAR, 1.1, _FP32, _VGG, honest=0.6),
    "mlp-sweep-fp32": Work("mlp", _GREY, 2.9, _FP32, ("tuned", *PACKS), loop="tensor_loop"),
    "conv-sweep-fp32": Work("conv", _DIGITS, 2.9, _FP32, ("tuned", "tuned+im2col", *PACKS), loop="tensor_loop"),
    "h200-resnet32": Work("resnet32-su2020", _CIFAR, 60.0, _BOTH, ("graph:8",)),
}


def random_data(shape: tuple[int, int, int]) -> Data:
    """As many images of noise as CIFAR-10 has, in full batches; a test set that takes no time to evaluate."""
    draw = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        pixels = torch.randint(256, (n, *shape), generator=draw, dtype=torch.uint8)
        return Split(pixels, torch.randint(CLASSES, (n,), generator=draw))

    colour = shape[0] == 3
    augment = Augment(4, True) if colour else Augment()
    return Data(
        "noise", split(782 * RECIPE.batch_size), split(64), CLASSES, (0.5,) * shape[0], (0.25,) * shape[0], augment
    )


def net(work: Work) -> nn.Module:
    """The dense net, always with the same weights."""
    with isolated(0, "net"):
        return build(work.model, CLASSES, work.shape)


def random_mask(model: nn.Module, seed: int) -> Mask:
    """Weights of convolutions and linear layers kept with the same chance everywhere."""
    draw = torch.Generator().manual_seed(seed)
    weights = {name: p for name, p in model.named_parameters() if p.ndim > 1}
    return Mask({name: torch.rand(p.shape, generator=draw) >= SPARSITY for name, p in weights.items()})
