"""What the sparse kernels are held against: the same layers in torch's double precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab.sparse import Net, Norm


@dataclass
class Case:
    """One layer with everything that may follow it, on random values."""

    shape: tuple[int, ...]
    outputs: int
    kernel: tuple[int, int] | None = None
    density: float = 0.3
    images: int = 5
    batch: int | None = None
    residual: bool = False
    norm: bool = False
    bias: bool = False
    relu: bool = False
    pool: str | None = None
    seed: int = 0
    more: dict[str, Any] = field(default_factory=dict)

    def mask(self) -> Tensor:
        groups = self.more.get("groups", 1)
        columns = torch.Size(self.shape).numel() if self.kernel is None else self.shape[0] // groups
        draw = torch.Generator().manual_seed(self.seed)
        return torch.rand((self.outputs, columns, *(self.kernel or ())), generator=draw) < self.density

    def net(self, instructions: str | None = None) -> Net:
        net = Net(self.shape, self.batch or self.images, instructions=instructions, input_gradient=True)
        source = 0
        norm = Norm() if self.norm else None
        if self.residual:
            # A layer before it, so that the residual is something else than the input.
            eye = torch.eye(self.shape[0], dtype=torch.bool)[:, :, None, None]
            source = net.layer(0, eye)
        source = net.layer(
            source,
            self.mask(),
            bias=self.bias,
            norm=norm,
            relu=self.relu,
            pool=self.pool,
            residual=source if self.residual else None,
            **self.more,
        )
        return net.build()


def rounding(found: Tensor, exact: Tensor) -> float:
    """The largest error, as a share of the largest value, or of 1: what is summed is of that size, if it cancels too.

    A channel with a single weight under a batch norm has no gradient at all, but for epsilon.
    """
    if found.numel() == 0:
        return 0.0
    return float((found.double() - exact).abs().max() / exact.abs().max().clamp_min(1))


def values(case: Case) -> dict[str, Tensor]:
    """Random parameters; pruned weights are zero."""
    draw = torch.Generator().manual_seed(case.seed + 1)
    mask = case.mask()
    some = {"weight": torch.randn(mask.shape, generator=draw) * mask}
    for name, wanted in (("bias", case.bias), ("gamma", case.norm), ("beta", case.norm)):
        if wanted:
            some[name] = torch.randn(mask.shape[0], generator=draw)
    return some


def exact(case: Case, some: dict[str, Tensor], x: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Output, input and parameters (with gradients to come) of the layer in torch."""
    held = {name: value.to(dtype).requires_grad_() for name, value in some.items()}
    x = x.to(dtype).requires_grad_()
    if case.kernel is None:
        y = functional.linear(x.flatten(1), held["weight"], held.get("bias"))
    else:
        y = functional.conv2d(x, held["weight"], held.get("bias"), **case.more)
    if case.norm:
        y = functional.batch_norm(y, None, None, held["gamma"], held["beta"], training=True)
    if case.residual:
        y = y + x
    if case.relu:
        y = torch.relu(y)
    if case.pool:
        y = functional.max_pool2d(y, 2, ceil_mode=case.pool == "ceil")
    return y, x, *held.values()


def run(case: Case, instructions: str | None = None, net: Net | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """Output and gradients as the kernels give them, each beside the exact ones."""
    net = net or case.net(instructions)
    number = net.layers[-1]
    some = values(case)
    if case.residual:
        net.write(0, "weight", torch.eye(case.shape[0])[:, :, None, None])
    for part, value in some.items():
        net.write(number, part, value)  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(case.seed + 2)
    x = torch.randn((case.images, *case.shape), generator=draw)
    y, x64, *held = exact(case, some, x)
    found = net.forward(x, training=True)
    dy = torch.randn(y.shape, generator=draw)
    y.backward(dy.double())
    net.backward(dy)
    assert x64.grad is not None
    pairs = {"output": (found.view_as(y), y.detach()), "input": (net.input_gradient(), x64.grad)}
    for (part, _), value in zip(some.items(), held, strict=True):
        assert value.grad is not None
        slope = value.grad * case.mask() if part == "weight" else value.grad
        pairs[part] = (net.read(number, part, "gradient"), slope)  # type: ignore[arg-type]
    return pairs


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a model by torch, in the precision of its weights."""
    model.zero_grad()
    loss = functional.cross_entropy(model(x.to(next(model.parameters()).dtype)), y)
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
