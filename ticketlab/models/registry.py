"""Models by name, or by `package:factory`. Imports torch only to build one."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from ticketlab.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelInfo:
    """A registered model. `factory` is `module:function`, imported when the model is built."""

    summary: str
    paper: str
    factory: str


_HE = "He, Zhang, Ren & Sun 2016, Deep Residual Learning for Image Recognition"
_SU = "Su et al. 2020, Sanity-Checking Pruning Methods, arXiv 2009.11094"
_VGG = "Simonyan & Zisserman 2015, arXiv 1409.1556"
_WRN = "Zagoruyko & Komodakis 2016, arXiv 1605.07146"

MODELS: dict[str, ModelInfo] = {
    name: ModelInfo(summary, paper, f"ticketlab.models.{factory}")
    for name, summary, paper, factory in (
        ("conv", "three convolutions, 24 thousand weights; any image size", "", "conv:conv"),
        ("mlp", "LeNet-300-100, fully connected; any input shape", "LeCun et al. 1998", "mlp:mlp"),
        (
            "resnet14-slim",
            "8-16-32 filters, 43 thousand weights; for quick trials",
            "",
            "resnet:resnet14_slim",
        ),
        ("resnet20", "20 layers, 0.27 million weights", _HE, "resnet:resnet20"),
        ("resnet32", "32 layers, 0.46 million weights", _HE, "resnet:resnet32"),
        ("resnet56", "56 layers, 0.85 million weights", _HE, "resnet:resnet56"),
        ("resnet32-su2020", "32 layers, twice as wide, 1.9 million weights", _SU, "resnet:resnet32_su2020"),
        ("vgg11", "8 convolutions with batch norm, 9.2 million weights", _VGG, "vgg:vgg11"),
        ("vgg16", "13 convolutions with batch norm, 14.7 million weights", _VGG, "vgg:vgg16"),
        ("vgg19", "16 convolutions with batch norm, 20 million weights", _VGG, "vgg:vgg19"),
        ("vgg19-slim", "an eighth of vgg19's filters, 0.3 million weights; for quick trials", "", "vgg:vgg19_slim"),
        ("wrn-16-4", "wide ResNet, 2.7 million weights", _WRN, "wrn:wrn_16_4"),
        ("wrn-28-10", "wide ResNet, 36.5 million weights", _WRN, "wrn:wrn_28_10"),
    )
}


def build(ref: str | Callable[..., nn.Module], num_classes: int, in_shape: tuple[int, ...]) -> nn.Module:
    """A fresh model: `ref` is a name of MODELS, `package:factory` of your own, or the factory itself.

    The module of your own is found on the import path or in the current directory. Its factory (a function
    or a class) is called with `num_classes` and `in_shape`, by keyword, as far as it takes them.
    Raises InputError for a reference that leads to no model.
    """
    from torch import nn

    if isinstance(ref, str) and ":" not in ref and ref not in MODELS:
        raise unknown("model", ref, MODELS)
    with _current_directory_importable():
        factory = _find(MODELS[ref].factory if ref in MODELS else ref) if isinstance(ref, str) else ref
        if isinstance(factory, nn.Module) or not callable(factory):
            what = "a finished model" if isinstance(factory, nn.Module) else f"a {type(factory).__name__}"
            raise InputError(
                f"asked for model {ref!r}, got {what}; a function or class is needed, "
                "since every seed starts from fresh weights"
            )
        model = _call(ref, factory, {"num_classes": num_classes, "in_shape": in_shape})
    if not isinstance(model, nn.Module):
        raise InputError(f"asked {ref!r} for a torch.nn.Module, got a {type(model).__name__}")
    return model


def _find(ref: str) -> Any:
    module, _, path = ref.partition(":")
    if not path or not all(part.isidentifier() for part in module.split(".")):
        raise InputError(f"asked for model {ref!r}; write it as package.module:factory")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        why = "" if f"{module}.".startswith(f"{error.name}.") else f", which {module!r} imports"
        raise InputError(
            f"asked for model {ref!r}, got no module {error.name!r}{why}; "
            f"looked on the import path and in {os.getcwd()}"
        ) from error
    try:
        return reduce(getattr, path.split("."), found)
    except AttributeError:
        public = [name for name in vars(found) if name[0] != "_"]
        raise unknown(f"factory in module {module!r}", path, public) from None


def _call(ref: object, factory: Any, offered: dict[str, Any]) -> Any:
    """Call with the offered arguments that are taken, also through **kwargs that are passed on elsewhere."""
    try:
        signature = inspect.signature(factory)
    except ValueError as error:
        raise InputError(f"asked for model {ref!r}; its factory does not say what it takes: {error}") from error
    parameters = signature.parameters.values()
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    given = {k: v for k, v in offered.items() if anything or k in named}
    while True:
        try:
            signature.bind(**given)
        except TypeError as error:
            raise InputError(
                f"asked for model {ref!r}; its factory is offered num_classes and in_shape, but: {error}"
            ) from error
        try:
            return factory(**given)
        except TypeError as error:
            refused = {k for k in given if f"unexpected keyword argument '{k}'" in str(error)} - named
            if not refused:
                raise
            given = {k: v for k, v in given.items() if k not in refused}


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = os.getcwd()
    sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if here in sys.path:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(here)]
