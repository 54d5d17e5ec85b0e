"""All runners, in the order of the report. One more is a function from a case to a call, and an entry here."""

from __future__ import annotations

from ticketlab.speed import onnx_runner, openvino_runner, own_runner, structured_runners
from ticketlab.speed.runner import Runner
from ticketlab.speed.torch_runners import compiled, eager

_BOTH = ("cpu", "cuda")

RUNNERS: dict[str, Runner] = {
    runner.name: runner
    for runner in (
        Runner("torch-unpruned", "torch, without the mask", "fp32", eager(unpruned=True), _BOTH, "unpruned"),
        Runner("torch", "torch", "fp32", eager(), _BOTH),
        Runner("torch-channels-last", "torch, channels last", "fp32", eager(channels_last=True), _BOTH),
        Runner("torch-compile", "torch.compile", "fp32", compiled(), _BOTH),
        Runner("onnxruntime", "ONNX Runtime", "fp32", onnx_runner.start, reads_onnx=True),
        Runner("openvino", "OpenVINO", "fp32", openvino_runner.start("fp32"), reads_onnx=True),
        Runner("torch-bf16", "torch, channels last", "bf16", eager(channels_last=True, bf16=True), _BOTH),
        Runner("torch-compile-bf16", "torch.compile", "bf16", compiled(bf16=True), _BOTH),
        Runner("openvino-bf16", "OpenVINO", "bf16", openvino_runner.start("bf16"), reads_onnx=True),
        Runner(
            *("torch-removed", "torch, channels removed", "fp32", structured_runners.channels_removed, _BOTH),
            pattern="channels",
        ),
        Runner(
            *("torch-2:4", "torch, 2:4", "bf16", structured_runners.two_of_four_linear, ("cuda",), "sparse"),
            pattern="2:4",
        ),
        Runner("ticketlab", "ticketlab", "fp32", own_runner.start, kind="sparse"),
    )
}
