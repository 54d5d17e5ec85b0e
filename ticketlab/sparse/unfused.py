"""torch's encoder layers without the function that runs one as a whole, past the linear layers inside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ticketlab.sparse.faster import measured
from ticketlab.sparse.one_layer import SparseLayer


class Unfused(nn.TransformerEncoderLayer):
    """An encoder layer that calls its linear layers, where that is faster than torch's fused function.

    In eval mode torch runs such a layer in one function, which reads the weights by name.
    """

    _choice: Choice

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """What the layer answers; nested tensors, and rows that attend to nothing, are for torch's function only."""

        def fused(some: Tensor) -> Tensor:
            return super(Unfused, self).forward(some, src_mask, src_key_padding_mask, is_causal)

        def called(some: Tensor) -> Tensor:
            found: Tensor = self._choice.called(some, src_mask, src_key_padding_mask, is_causal)
            return found

        def past(why: str) -> Tensor:
            for layer in self._choice.layers:
                layer.pass_over(why)
            return fused(src)

        masks = [mask for mask in (src_mask, src_key_padding_mask) if mask is not None]
        if src.is_nested or len(masks) > 1 or any(_shuts_out(mask) for mask in masks):
            return past("these inputs are for torch's fused encoder layer")
        if not self._choice.calls(src, len(masks), fused, called):
            return past("torch's fused encoder layer measured faster")
        return called(src)


class Choice:
    """Which of both ways an encoder layer goes.

    Args:
        layer: some of whose linear layers may be sparse.
        layers: these.
        always: whether they are to be called without being measured.
    """

    def __init__(self, layer: nn.TransformerEncoderLayer, layers: Sequence[SparseLayer], always: bool) -> None:
        self.layers = layers
        # A copy that shares everything inside: no activation, so far as torch's function knows, that it can do.
        self.called = copy.copy(layer)
        self.called.activation_relu_or_gelu = 0
        sizes = [(*one.mask.shape, f"{one.kept:.1e}") for one in layers]
        self._facts = (sizes, layer.norm_first, layer.self_attn.num_heads, layer.activation_relu_or_gelu)
        self._always = always
        self._found: dict[tuple[object, ...], bool] = {}

    def calls(
        self, src: Tensor, masks: int, fused: Callable[[Tensor], Tensor], called: Callable[[Tensor], Tensor]
    ) -> bool:
        """Whether the linear layers are to be called for such inputs."""
        if self._always or not self._facts[-1]:
            return True
        # Powers of two, as the layers inside decide.
        key = (*((size - 1).bit_length() for size in src.shape[:-1]), masks, torch.get_num_threads())
        if key not in self._found:
            ways = {"fused": fused, "layers": called}
            self._found[key] = measured(ways, src, (self._facts, masks), "encoder") == "layers"
        return self._found[key]


def unfuse(layer: nn.TransformerEncoderLayer, layers: Sequence[SparseLayer], always: bool) -> None:
    """Let a layer call its linear layers. Its class changes, so that everything that holds it still does."""
    choice = Choice(layer, layers, always)
    layer.__class__ = Unfused
    layer._choice = choice  # type: ignore[assignment]


def _shuts_out(mask: Tensor) -> bool:
    """Whether a mask leaves a row nothing to attend to: the ways answer differently then."""
    shut = mask if mask.dtype == torch.bool else mask == -torch.inf
    return bool(shut.all(-1).any())
