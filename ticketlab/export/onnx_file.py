"""ONNX: the network with zeros where weights were pruned, for any batch size, checked in ONNX Runtime."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ticketlab import seeding
from ticketlab.errors import InputError

INPUT, OUTPUT = "inputs", "logits"
INSTALL = "pip install 'ticketlab[onnx]'"
# Another order of summation, in fp32; more than that is another network.
TOLERANCE = 1e-3


def to_bytes(model: nn.Module, in_shape: tuple[int, ...], facts: Mapping[str, Any] | None = None) -> bytes:
    """The model in eval mode as an ONNX file, from (N, *in_shape) fp32 to what it gives; N is free.

    Args:
        facts: plain values for the file's metadata, under "ticketlab".

    Raises:
        InputError: onnx and onnxscript are not installed, or torch cannot export this model.
    """
    for needed in ("onnx", "onnxscript"):
        _import(needed)
    # Two examples: torch takes a batch of one for a constant.
    example = torch.zeros(2, *in_shape)
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
            proto = program.model_proto  # type: ignore[union-attr]  # None only without dynamo
            if facts:
                entry = proto.metadata_props.add()
                entry.key, entry.value = "ticketlab", json.dumps(dict(facts), sort_keys=True)
            return bytes(proto.SerializeToString())
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        why = _reason(error)
        raise InputError(
            f"asked for ONNX of {type(model).__name__}, got a model that torch cannot export: {why}"
        ) from error


def session(content: bytes, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU for the bytes of a file.

    Raises:
        InputError: ONNX Runtime is not installed.
    """
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def difference(content: bytes, model: nn.Module, in_shape: tuple[int, ...], examples: int = 5) -> float | None:
    """The largest difference between ONNX Runtime's outputs and torch's, over the largest output; None without it."""
    try:
        opened = session(content)
    except InputError:
        return None
    inputs = torch.randn(examples, *in_shape, generator=seeding.generator(0, "onnx"))
    with torch.no_grad():
        wanted = model(inputs)
    found = torch.from_numpy(opened.run(None, {INPUT: inputs.numpy()})[0])
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(torch.finfo().tiny))


def _reason(error: BaseException) -> str:
    """The first line of what was wrong at the start: torch's exporter puts pages of advice around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"ONNX needs {module}, which is not there: {INSTALL}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter tells of its own deprecations, and of packages that this model does not use."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
