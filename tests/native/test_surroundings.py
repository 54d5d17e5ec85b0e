"""Compiled tickets under whatever stands around a call of torch's: transforms, tracers, defaults for new tensors."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from ticketlab.mask import Mask
from ticketlab.sparse.compiled import CompiledTicket, compile_ticket


def ticket(whole: bool) -> tuple[CompiledTicket, nn.Module]:
    """On the kernels, and the masked model in double precision."""
    torch.manual_seed(0)
    after = nn.ReLU() if whole else nn.GELU()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), after, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 5)).eval()
    mask = Mask({"0.weight": torch.rand(8, 3, 3, 3) < 0.3, "4.weight": torch.rand(5, 128) < 0.3})
    plain = mask.apply_(copy.deepcopy(model)).double().requires_grad_(False)
    return compile_ticket(model, mask, path="sparse"), plain


def close(found: Tensor, wanted: Tensor) -> bool:
    return found.dtype == torch.float32 and bool((found.double() - wanted).abs().max() < 1e-5 * wanted.abs().max())


def traced(fast: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():
        # torch calls it deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        found: Callable[[Tensor], Tensor] = torch.jit.trace(fast, x)
    return found


WAYS: dict[str, Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]] = {
    "jit.trace": traced,
    "make_fx": lambda fast, x: make_fx(fast)(x),
    "export": lambda fast, x: torch.export.export(fast, (x,)).module(),
    "functionalize": lambda fast, _: torch.func.functionalize(fast),
    "vmap": lambda fast, _: lambda y: torch.vmap(fast)(y[:, None])[:, 0],
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("used", [True, False])
def test_transforms_and_tracers(way: str, whole: bool, used: bool) -> None:
    fast, plain = ticket(whole)
    x, y = torch.randn(2, 4, 3, 8, 8)
    if used:
        fast(x)
    assert close(WAYS[way](fast, x)(y), plain(y.double()))
    assert close(fast(y), plain(y.double())) and "sparse" in fast.path


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("whole", [True, False])
def test_derivatives_in_forward_mode(whole: bool) -> None:
    fast, plain = ticket(whole)
    x, along = torch.randn(2, 4, 3, 8, 8)
    fast(x)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(fast(forward_ad.make_dual(x, along)))
        wanted = forward_ad.unpack_dual(plain(forward_ad.make_dual(x.double(), along.double())))
    assert close(found.primal, wanted.primal)
    assert found.tangent is not None and close(found.tangent, wanted.tangent)


@pytest.mark.parametrize("whole", [True, False])
def test_negated_views(whole: bool) -> None:
    fast, plain = ticket(whole)
    x = torch._neg_view(torch.randn(4, 3, 8, 8))
    assert x.is_neg() and x.is_contiguous()
    assert close(fast(x), plain(x.double()))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_another_default_type(whole: bool, dtype: torch.dtype) -> None:
    fast, plain = ticket(whole)
    x = torch.randn(20, 3, 8, 8)
    wanted = plain(x.double())
    torch.set_default_dtype(dtype)
    try:
        found = fast(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert close(found, wanted) and "sparse" in fast.path


def test_another_default_device() -> None:
    x = torch.randn(4, 3, 8, 8)
    for path in ("sparse", "auto"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)).eval()
        mask = Mask({"0.weight": torch.rand(8, 3, 3, 3) < 0.3})
        wanted = mask.apply_(copy.deepcopy(model)).double()(x.double())
        with torch.device("meta"):
            found = compile_ticket(model, mask, path)(x)
        assert found.device.type == "cpu" and close(found, wanted)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", [True, False])
def test_as_a_part_of_a_compiled_model(whole: bool) -> None:
    fast, plain = ticket(whole)
    compiled = torch.compile(nn.Sequential(nn.Hardtanh(), fast), backend="eager")
    for images in (1, 3, 20):
        x = torch.randn(images, 3, 8, 8)
        assert close(compiled(x), plain(x.double().clamp(-1, 1)))
    assert "sparse" in fast.path


def test_the_compiler_is_not_loaded_for_those_who_do_not_use_it() -> None:
    code = "import sys, ticketlab.sparse.compiled; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
