"""What a model becomes: nothing takes a selection that could be a part of a layer, or of what was joined before."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from native.structures import DenseNet, preactivation
from ticketlab.sparse.steps import Maximum, Selection, Step
from ticketlab.sparse.trace import traced


@pytest.mark.parametrize("relu_first", [True, False])
def test_a_relu_around_max_pooling_is_the_layers_own(relu_first: bool) -> None:
    tail = [nn.ReLU(), nn.MaxPool2d(3, 2, 1)] if relu_first else [nn.MaxPool2d(3, 2, 1), nn.ReLU()]
    found = traced(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *tail))
    maximum = Maximum((3, 3), (2, 2), (1, 1), ceil=False)
    assert found == (Step(0, "0", norm="1", relu=True), Step(1, None, maximum=maximum))


def test_a_batch_norm_before_its_convolution_takes_one_selection() -> None:
    found = traced(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.BatchNorm2d(4)))
    assert found == (
        Step(0, None, norm="0", relu=True, selection=Selection(3, 3)),
        Step(1, "2", pool="floor"),
        Step(2, None, norm="4", selection=Selection(4, 4)),
    )
    # Those that start a block read a sum, or what a sum reads too; the norms inside are their layers' own.
    wide = traced(preactivation(10, (3, 8, 8)))
    assert [step.norm for step in wide if step.selection] == [
        *("layer1.0.bn1", "layer2.0.bn1", "layer3.0.bn1", "bn"),
    ]


def test_what_was_joined_is_joined_once() -> None:
    steps = traced(DenseNet(10, (3, 8, 8)))
    joins = [s for s in steps if s.selection and s.selection.channels != s.selection.outputs]
    # Two for each new tensor, and none for those that came before it.
    assert len(joins) == 2 * 5
    assert sum(s.selection.channels for s in joins if s.selection) == sum([10, 14, 18, 12, 16])


class Overwritten(nn.Module):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.one, self.two, self.relu = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        y = self.two(x)
        z = self.relu(x)
        return torch.add(y, z) + x


@pytest.mark.parametrize("inplace", [True, False])
def test_what_is_written_over_is_read_as_it_is_then(inplace: bool) -> None:
    found = traced(Overwritten(inplace))
    relu, total = Step(1, None, relu=True, selection=Selection(4, 4)), Selection(4, 4)
    assert found[2:] == (
        relu,
        Step(3, None, residual=2, selection=total),
        Step(4, None, residual=3 if inplace else 1, selection=total),
    )
