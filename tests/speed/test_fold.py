"""Folded networks compute what the plain ones compute, with fewer modules."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor, nn

from ticketlab.models.registry import build
from ticketlab.sparse.fold import folded


def lively(model: nn.Module) -> nn.Module:
    """With batch-norm statistics and scales that are not those of the start."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.track_running_stats:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model.eval()


class Twice(nn.Module):
    """A convolution that two norms follow, and a norm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(1, 4, 3)
        self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(x)
        return self.one(self.again(self.one(x) + self.two(x))).flatten(1)


class Branching(tiny.Net):
    """What no tracer can follow."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


@pytest.mark.parametrize(
    ("model", "shape", "norms"),
    [
        (build("vgg19-slim", 10, (3, 16, 16)), (3, 16, 16), 16),
        (build("resnet14-slim", 10, (3, 16, 16)), (3, 16, 16), 15),
        (tiny.Net(), (1, 8, 8), 1),
        (nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU()), (5,), 1),
        (nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2, affine=False)), (1, 8, 8), 1),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)), (1, 8, 8), 0),
        (nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)), (1, 8, 8), 0),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2)), (1, 8, 8), 2),
        (Twice(), (1, 8, 8), 0),
        (Branching(), (1, 8, 8), 0),
    ],
    ids=["vgg", "resnet", "tiny", "linear", "no affine", "no statistics", "norm first", "two", "shared", "untraceable"],
)
def test_folded(model: nn.Module, shape: tuple[int, ...], norms: int) -> None:
    plain = lively(model)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    found, done = folded(plain)
    inputs = torch.randn(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(found(inputs), plain(inputs), rtol=1e-4, atol=1e-4)
    assert done == norms
    count = [sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()) for net in (plain, found)]
    assert count[0] - count[1] == norms
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
