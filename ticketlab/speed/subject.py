"""What is measured: a network with a ticket's weights, or with random weights under a random mask, and its inputs."""

from __future__ import annotations

import copy
import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ticketlab import seeding
from ticketlab.data.batches import prepare
from ticketlab.data.load import load
from ticketlab.data.names import DATASETS
from ticketlab.errors import EmptyLayerWarning, InputError, unknown
from ticketlab.export import onnx_file
from ticketlab.export.network import network_of
from ticketlab.mask import Mask
from ticketlab.models.registry import build
from ticketlab.program import Ticket
from ticketlab.pruning import prune
from ticketlab.sparse.fold import folded
from ticketlab.sparse.plans import without_idle
from ticketlab.ticket_file import load_ticket

RATIOS = ("uniform", "smart", "erk")
_CALIBRATION = 256  # images for the batch-norm statistics of a network that was never trained


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    Attributes:
        name: of the model.
        origin: where weights and mask come from, in words.
        model: in eval mode, fp32, on the CPU, pruned weights zero.
        inputs: normalised images to measure with, (N, *in_shape).
        images: what these are, in words.
        facts: what is known of the ticket, in plain values.
    """

    name: str
    origin: str
    model: nn.Module
    mask: Mask
    inputs: Tensor
    images: str
    facts: dict[str, Any]

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Of one input, without the batch."""
        return tuple(self.inputs.shape[1:])

    @property
    def ticket(self) -> Ticket:
        """The network as a ticket."""
        return Ticket(self.mask, self.model.state_dict())

    @cached_property
    def folded(self) -> nn.Module:
        """With batch norm folded into the convolutions, where that can be."""
        return folded(self.model)[0]

    @cached_property
    def without_channels(self) -> nn.Module:
        """The same, without the channels that change no answer.

        Raises:
            InputError: there are none that can be removed alone, or the network is not known well enough to say.
        """
        found, _ = without_idle(self.folded, self.mask, self.in_shape)
        sizes = [sum(p.numel() for p in model.parameters()) for model in (self.folded, found)]
        if sizes[0] == sizes[1]:
            raise InputError("no channel can be removed alone: sums and grouped convolutions keep theirs")
        return found

    @cached_property
    def unpruned(self) -> nn.Module:
        """The network with small random numbers where weights were pruned: what a mask has to beat."""
        filled = copy.deepcopy(self.model)
        with torch.no_grad():
            for name, weight in self.mask.match(filled).items():
                noise = torch.randn(weight.shape, generator=seeding.generator(0, "unpruned", name))
                scale = weight[self.mask[name]].std() if int(self.mask[name].sum()) > 1 else weight.new_tensor(0.01)
                weight.copy_(torch.where(self.mask[name], weight, noise * scale * 0.1))
        return filled

    @cached_property
    def unpruned_folded(self) -> nn.Module:
        """The same, with batch norm folded."""
        return folded(self.unpruned)[0]

    @property
    def onnx(self) -> bytes:
        """The folded network as an ONNX file, made once for all that read it; InputError where it cannot be made."""
        if isinstance(self._exported, InputError):
            raise self._exported
        return self._exported

    @cached_property
    def _exported(self) -> bytes | InputError:
        try:
            return onnx_file.to_bytes(self.folded, self.in_shape)
        except InputError as error:
            return error

    def batch(self, size: int) -> Tensor:
        """So many inputs, the first ones again where there are too few."""
        return self.inputs[torch.arange(size) % len(self.inputs)].contiguous()


def from_ticket(path: str, model: str | None, data: str | None, data_dir: str | None) -> Subject:
    """The network of a ticket file.

    Raises:
        InputError: the file is no ticket, or its network or its images cannot be had.
    """
    file = load_ticket(path)
    network = network_of(file, model)
    named = data or str(file.facts["data"].get("name", ""))
    inputs, images = _images(named, data_dir, network.in_shape, asked=data is not None)
    known = ("method", "sparsity", "seed", "accuracy")
    facts = {key: file.facts[key] for key in known if key in file.facts}
    return Subject(network.name, f"the ticket {path}", network.model, file.ticket.mask, inputs, images, facts)


def random_subject(model: str, data: str, data_dir: str | None, sparsity: float, ratios: str, seed: int) -> Subject:
    """A network with fresh weights under a random mask, its batch-norm statistics those of the inputs.

    Args:
        ratios: how the kept weights are spread over the layers: "uniform", "smart" (Su et al. 2020; the VGG form for
            models whose name says vgg) or "erk".

    Raises:
        InputError: anything wrong with the input.
    """
    if data not in DATASETS:
        raise unknown("data set", data, DATASETS)
    if ratios not in RATIOS:
        raise unknown("ratios", ratios, RATIOS)
    info = DATASETS[data]
    inputs, images = _images(data, data_dir, info.shape, asked=True)
    with seeding.isolated(seed, "speed"):
        built = build(model, info.classes, info.shape)
    options: dict[str, Any] = {"budget": ratios}
    if ratios == "smart":
        options["form"] = "vgg" if "vgg" in model else "resnet"
    with warnings.catch_warnings():
        # The report names empty layers.
        warnings.simplefilter("ignore", EmptyLayerWarning)
        mask = prune(built, "random", sparsity, seed=seed, **options)
    _calibrate(mask.apply_(built), inputs[:_CALIBRATION])
    return Subject(
        model, f"random weights and mask, {ratios} ratios", built.eval(), mask, inputs, images, {"seed": seed}
    )


def _calibrate(model: nn.Module, inputs: Tensor) -> None:
    """Without statistics of its own, activations of a sparse network fade to nothing from layer to layer."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        model.train()(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _images(name: str, data_dir: str | None, shape: tuple[int, ...], asked: bool) -> tuple[Tensor, str]:
    """Test images where they are at hand, else noise: nothing is downloaded to measure a speed."""
    here = name == "digits" or data_dir is not None or "TICKETLAB_DATA" in os.environ
    if name in DATASETS and here:
        data = load(name, data_dir, limit_test=_CALIBRATION)
        if data.in_shape == shape:
            return prepare(data, data.test.inputs), f"test images of {name}"
        if asked:
            raise InputError(f"asked for images of {name}, got {data.in_shape}; the network takes {shape}.")
    noise = torch.randn(_CALIBRATION, *shape, generator=seeding.generator(0, "noise"))
    return noise, f"noise of shape {' x '.join(map(str, shape))}"
