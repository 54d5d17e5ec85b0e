"""OpenVINO, in fp32 or bf16."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ticketlab.engine.precision import check_precision
from ticketlab.speed.runner import Call, Case, needs

INSTALL = "pip install 'ticketlab[openvino]'"


def start(precision: str) -> Callable[[Case], Call]:
    """The network compiled for the CPU, the case's batch size and its threads."""

    def prepared(case: Case) -> Call:
        openvino = needs("openvino", INSTALL)
        for module in ("onnx", "onnxscript"):
            needs(module, INSTALL)
        check_precision(precision, case.device)
        core = openvino.Core()
        # Read from ONNX: the converter of torch modules would tell its maker's statistics that it was called.
        network = core.read_model(case.subject.onnx)
        network.reshape([case.batch, *case.subject.in_shape])
        hints = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": case.threads,
        }
        request = core.compile_model(network, "CPU", hints).create_infer_request()

        def call(inputs: Tensor) -> Tensor:
            found = request.infer([inputs.numpy()], share_inputs=True, share_outputs=False)
            return torch.from_numpy(found[0])

        return call

    return prepared
