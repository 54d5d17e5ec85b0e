"""ONNX Runtime."""

from __future__ import annotations

import torch
from torch import Tensor

from ticketlab.export import onnx_file
from ticketlab.speed.runner import Call, Case, needs


def start(case: Case) -> Call:
    """A session with the case's threads."""
    for module in ("onnxruntime", "onnx", "onnxscript"):
        needs(module, onnx_file.INSTALL)
    session = onnx_file.session(case.subject.onnx, case.threads)

    def call(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {onnx_file.INPUT: inputs.numpy()})[0])

    return call
