"""What takes turns in `sparse.py`: training steps and answers, dense and sparse."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial

import torch
from torch import nn

from support.sparse_targets import BATCH, CLASSES, MODELS, RATIOS, SHAPE, SPARSITIES
from support.work import RECIPE, random_data
from ticketlab.engine.job import Job, clones, tensors_of
from ticketlab.engine.kinds import open_engine
from ticketlab.errors import InputError
from ticketlab.mask import Mask
from ticketlab.models.registry import build
from ticketlab.seeding import isolated
from ticketlab.sparse.model import SparseModel
from ticketlab.speed.runner import Case
from ticketlab.speed.runners import RUNNERS
from ticketlab.speed.subject import Subject, random_subject

# The engines beside which the sparse one trains: spec and precision.
DENSE_TRAINING = {
    "plain": ("plain", "fp32"),
    "tuned": ("tuned", "fp32"),
    "tuned+im2col": ("tuned+im2col", "fp32"),
    "tuned bf16": ("tuned", "bf16"),
    "tuned+im2col bf16": ("tuned+im2col", "bf16"),
}
DENSE_ANSWERS = (
    *("torch", "torch-channels-last", "torch-compile", "onnxruntime", "openvino"),
    *("torch-bf16", "torch-compile-bf16", "openvino-bf16"),
)
Call = Callable[[], object]


def network(net: str) -> nn.Module:
    """The dense net, always with the same weights."""
    with isolated(0, "net"):
        return build(MODELS[net], CLASSES, SHAPE)


def training(net: str, spec: str, precision: str, mask: Mask) -> Call:
    """A call that makes one step of an engine on a ticket, batch 64.

    Raises:
        InputError: the engine is not to be had here.
    """
    model, data = network(net), random_data(SHAPE)
    engine = open_engine(spec, model, data, RECIPE, precision=precision)
    engine.load([Job(clones(tensors_of(model)), mask, 0)])
    inputs = torch.randn(1, BATCH, *SHAPE, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(BATCH)[None] % CLASSES
    return lambda: engine.step(inputs, targets, RECIPE.lr, 0)


def parts(net: str, mask: Mask) -> dict[str, float]:
    """Seconds of all convolutions and linear layers in each pass of a training step on the kernels."""
    model = network(net)
    sparse = SparseModel(model, mask, SHAPE, BATCH)
    sparse.load(tensors_of(mask.apply_(model)))
    step = partial(sparse.net.step, torch.randn(BATCH, *SHAPE), torch.arange(BATCH) % CLASSES, RECIPE.lr)
    step()
    return {which: sum(sparse.net.seconds(i, which, 5) for i in sparse.net.layers) for which in sparse.net.passes}


def subject(net: str, ratios: str, sparsity: int) -> Subject:
    """A net that answers: random weights under a random mask."""
    return random_subject(MODELS[net], "cifar10", None, sparsity / 100, ratios, 0)


@cache
def subjects(net: str) -> dict[tuple[str, int], Subject]:
    """All of them, by ratios and sparsity."""
    return {(ratios, sparsity): subject(net, ratios, sparsity) for ratios in RATIOS for sparsity in SPARSITIES}


def exported(net: str) -> None:
    """Have the dense net as ONNX for the runners that read it; they say so themselves where that fails."""
    with suppress(InputError):
        _ = subjects(net)["uniform", 90].onnx


def answers(runner: str, of: Subject, threads: int, batch: int) -> Call:
    """A call that answers a batch.

    Raises:
        InputError: the runner is not to be had here.
    """
    call = RUNNERS[runner].start(Case(of, batch, threads, torch.device("cpu")))
    inputs = of.batch(batch)
    # The first calls compile and tune.
    for _ in range(3):
        call(inputs)
    return lambda: call(inputs)


def available(found: dict[str, Call], name: str, make: Callable[[], Call], say: Callable[[str], object]) -> None:
    """Add a side where it is to be had, else say why not."""
    try:
        found[name] = make()
    except InputError as error:
        say(f"{name} left out: {error}")
