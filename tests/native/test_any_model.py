"""Models of random structure against torch: whatever follows whatever, read by whom it may be."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import Tensor, nn

from native.reference import gradients, rounding
from ticketlab.sparse import plans
from ticketlab.sparse.fold import folded
from ticketlab.sparse.model import SparseModel

SHAPE = (3, 6, 7)
KINDS = ("conv", "conv", "norm", "norm", "relu", "relu", "add", "cat", "max", "mean", "same")


class Drawn(nn.Module):
    """Layers, norms, ReLUs, sums, joins and poolings on tensors drawn at random; the means of all ends decide."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.parts, self.plan = nn.ModuleList(), []
        known, unread = [SHAPE], [0]
        while len(known) < 14:
            # The first one tells how many channels the input has.
            kind = draw.choice(KINDS) if self.plan else "conv"
            # Mostly what was made last, so that chains come about, and branches too.
            source = draw.choice([len(known) - 1, draw.randrange(len(known))])
            channels, *size = known[source]
            sources, given = [source], (channels, *size)
            if kind == "conv":
                given = (draw.randint(2, 5), *size)
                bias = draw.random() < 0.5
                self.parts.append(nn.Conv2d(channels, given[0], draw.choice([1, 3]), padding="same", bias=bias))
            elif kind in ("add", "cat"):
                first = int(kind == "cat")
                fitting = [i for i, shape in enumerate(known) if shape[first:] == known[source][first:]]
                sources += [draw.choice(fitting) for _ in range(1 if kind == "add" else draw.randint(1, 2))]
                given = (channels if kind == "add" else sum(known[i][0] for i in sources), *size)
            elif kind in ("max", "mean"):
                halves = min(size) > 3 and draw.random() < 0.4
                window = (2, 2, 0) if halves else (3, 1, 1)
                self.parts.append((nn.MaxPool2d if kind == "max" else nn.AvgPool2d)(*window))
                given = (channels, size[0] // 2, size[1] // 2) if halves else given
            elif kind == "norm":
                self.parts.append(nn.BatchNorm2d(channels))
                nn.init.uniform_(self.parts[-1].bias, 0.1, 0.5)
            elif kind in ("relu", "same"):
                self.parts.append(nn.ReLU() if kind == "relu" else nn.Identity())
            if given[0] > 12:
                continue
            self.plan.append((kind, sources, None if kind in ("add", "cat") else len(self.parts) - 1))
            unread = [i for i in unread if i not in sources] + [len(known)]
            known.append(given)
        self.ends = unread
        self.fc = nn.Linear(sum(known[i][0] for i in unread), 10)

    def forward(self, x: Tensor) -> Tensor:
        held = [x]
        for kind, sources, part in self.plan:
            read = [held[i] for i in sources]
            if kind == "add":
                held.append(read[0] + read[1])
            elif kind == "cat":
                held.append(torch.cat(read, 1))
            else:
                held.append(self.parts[part](read[0]))
        logits: Tensor = self.fc(torch.cat([held[i].mean((2, 3)) for i in self.ends], 1))
        return logits


@pytest.mark.parametrize("seed", range(50))
def test_training_and_answers(seed: int) -> None:
    torch.manual_seed(seed)
    model = Drawn(seed).train()
    mask = {n: torch.rand(p.shape) < 0.7 for n, p in model.named_parameters() if p.dim() > 1}
    with torch.no_grad():
        for n, p in model.named_parameters():
            if n in mask:
                p.mul_(mask[n])
    x, y = torch.randn(9, *SHAPE), torch.arange(9)
    sparse = SparseModel(model, mask, SHAPE, 9)
    sparse.load(model.state_dict())
    double = copy.deepcopy(model).double()
    exact_loss, exact = gradients(double, x, y)
    sparse.net.forward(x, training=True)
    assert sparse.net.loss(y) == pytest.approx(exact_loss, rel=1e-5)
    sparse.net.backward()
    found = sparse.read("gradient")
    _, theirs = gradients(copy.deepcopy(model), x, y)
    assert found.keys() == exact.keys()
    for n, slope in exact.items():
        alive = mask.get(n, torch.ones(()))
        # What a batch norm cancels is rounding alone, and one of a constant channel multiplies the rest of it.
        if float(slope.norm()) > 1e-6:
            assert rounding(found[n], slope * alive) < 2e-5 + 3 * rounding(theirs[n] * alive, slope * alive), n
    double.eval()
    for n, value in sparse.buffers().items():
        assert rounding(value, double.state_dict()[n]) < 1e-5, n
    with torch.no_grad():
        wanted = double(x.double())
        assert rounding(sparse.net.forward(x), wanted) < 1e-5
        # Folded, and without whole units and what they make idle.
        for n in mask:
            mask[n] &= (torch.rand(len(mask[n])) < 0.6).view(-1, *[1] * (mask[n].dim() - 1))
        model.load_state_dict({**model.state_dict(), **sparse.buffers()})
        for held in (model, double):
            for n, p in held.named_parameters():
                if n in mask:
                    p.mul_(mask[n])
        wanted = double(x.double())
    smaller, less = plans.without_idle(folded(model.eval())[0], mask, SHAPE)
    for lanes in ("images", "pixels"):
        answers = SparseModel(smaller, less, SHAPE, 9, training=False, lanes=lanes)  # type: ignore[arg-type]
        answers.load(smaller.state_dict())
        assert rounding(answers.net.forward(x), wanted) < 1e-5
