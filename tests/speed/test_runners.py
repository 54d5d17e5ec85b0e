"""Every runner computes the ticket's outputs, or says why it is not there; none that is wrong is timed."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

import ticketlab
from ticketlab.engine.precision import check_precision
from ticketlab.errors import InputError
from ticketlab.sparse import missing
from ticketlab.sparse.library import level
from ticketlab.speed import measure, own_runner, structured_runners
from ticketlab.speed.measure import How, document
from ticketlab.speed.outputs import TOLERANCES, deviation
from ticketlab.speed.runner import Case
from ticketlab.speed.runners import RUNNERS
from ticketlab.speed.subject import Subject

# For masks of a pattern.
STRUCTURED = ("torch-removed", "torch-2:4")
SHORT = {"rounds": 3, "seconds": 1e-4}


@pytest.fixture(autouse=True)
def known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a machine that needs no measuring."""
    monkeypatch.setattr(measure, "matmul_peak", lambda *_: 1e11)
    monkeypatch.setattr(measure, "copy_bandwidth", lambda *_: 1e10)


def subject() -> Subject:
    """A tiny net with batch-norm statistics, half of it pruned."""
    torch.manual_seed(0)
    model = tiny.Net()
    model.norm.running_mean.normal_()
    mask = ticketlab.prune(model, "magnitude", 0.5)
    return Subject("tiny", "made", mask.apply_(model).eval(), mask, torch.randn(8, 1, 8, 8), "noise", {})


def skip_unless_there(name: str) -> None:
    """Skip, saying why, where a package, a compiler or an instruction set is missing."""
    runner = RUNNERS[name]
    if runner.reads_onnx:
        pytest.importorskip("onnxscript", reason="onnx and onnxscript are not installed")
        pytest.importorskip("onnxruntime" if name == "onnxruntime" else "openvino", reason=f"{name} is not installed")
    if name == "ticketlab" and (why := missing()):
        pytest.skip(why)
    if "cuda" in runner.devices and "cpu" not in runner.devices and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    if runner.precision == "bf16":
        try:
            check_precision("bf16", torch.device("cpu"))
        except InputError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("name", [name for name in RUNNERS if name not in ("torch-compile-bf16", *STRUCTURED)])
def test_outputs(name: str) -> None:
    skip_unless_there(name)
    runner, made = RUNNERS[name], subject()
    if runner.reads_onnx:
        assert len(made.onnx) > 1000
    for batch in (1, 3):
        try:
            call = runner.start(Case(made, batch, 1, torch.device("cpu")))
        except InputError as error:
            assert name == "torch-compile", error
            pytest.skip(str(error))
        inputs = made.batch(batch)
        with torch.no_grad():
            wanted = (made.unpruned if runner.kind == "unpruned" else made.model)(inputs)
        found = call(inputs)
        assert found.dtype == torch.float32
        assert deviation(found, wanted).error < TOLERANCES[runner.precision] / 4


def test_the_unpruned_network_has_no_zeros_and_the_kept_weights() -> None:
    made = subject()
    for name, weight in made.mask.match(made.unpruned).items():
        kept = made.mask[name]
        assert int((weight == 0).sum()) == 0 and torch.equal(weight[kept], made.model.get_parameter(name)[kept])


@pytest.mark.parametrize("path", ["sparse (avx512)", "dense: measured faster at batch 2"])
def test_own_runner_is_what_compile_ticket_gives(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Compiled:
        refused = None

        def __init__(self, model: nn.Module, mask: ticketlab.Mask) -> None:
            asked.append(mask)
            self._model = model
            self.path = "not chosen yet"

        def __call__(self, inputs: Tensor) -> Tensor:
            self.path = path
            with torch.no_grad():
                outputs: Tensor = self._model(inputs)
            return outputs

    monkeypatch.setattr(own_runner, "compile_ticket", Compiled)
    made = subject()
    found = document(made, How(batches=(2,), runners=["torch", "ticketlab"], **SHORT))
    rows = {row["runner"]: row for row in found["batches"][0]["rows"]}
    assert asked == [made.mask] and rows["ticketlab"]["kind"] == "sparse" and rows["ticketlab"]["n"] == 3
    assert rows["torch"]["speed"]["median"] == 1
    assert rows["ticketlab"]["text"] == f"ticketlab, {path}"
    assert any(f"ticketlab, {path}, runs at" in sentence for sentence in found["words"])


def test_a_network_that_runs_layer_by_layer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    if why := missing():
        pytest.skip(why)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 3)).eval()
    mask = ticketlab.prune(model, "magnitude", 0.5)
    made = Subject("odd", "made", mask.apply_(model), mask, torch.randn(8, 1, 8, 8), "noise", {})
    monkeypatch.setattr(own_runner, "compile_ticket", functools.partial(ticketlab.compile_ticket, path="sparse"))
    found = document(made, How(batches=(2,), runners=["torch", "ticketlab"], **SHORT))
    (row,) = (row for row in found["batches"][0]["rows"] if row["runner"] == "ticketlab")
    assert row["text"] == f"ticketlab, layer by layer ({level()}): 2 of 2 layers sparse" and not found["unavailable"]


def test_a_network_of_which_the_kernels_know_no_layer_has_no_row_of_ours() -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(1, 4, 3, padding_mode="circular")
    model = nn.Sequential(first, nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 3)).eval()
    mask = ticketlab.Mask({"0.weight": torch.rand(4, 1, 3, 3) < 0.5})
    made = Subject("odd", "made", mask.apply_(model), mask, torch.randn(8, 1, 8, 8), "noise", {})
    found = document(made, How(batches=(2,), runners=["torch", "ticketlab"], **SHORT))
    (why,) = found["unavailable"]
    assert why["runner"] == "ticketlab" and ("circular" in why["why"] or missing())


def units(*removed: int) -> Subject:
    """The tiny net without some units of its first layer, whose constants flow on."""
    torch.manual_seed(0)
    model = tiny.Net()
    model.norm.running_mean.normal_()
    model.norm.bias.data.uniform_(0.5, 1)
    mask = ticketlab.Mask.dense(ticketlab.prunable(model))
    kept = mask["first.weight"].clone()
    kept[list(removed)] = False
    mask = ticketlab.Mask({**mask, "first.weight": kept})
    return Subject("tiny", "made", mask.apply_(model).eval(), mask, torch.randn(8, 1, 8, 8), "noise", {})


def test_a_network_built_without_its_removed_units() -> None:
    made = units(0, 2, 3)
    assert made.without_channels.get_submodule("first").out_channels == 2
    assert made.folded.get_submodule("first").out_channels == 4
    found = document(made, How(batches=(2,), runners=["torch", "torch-removed"], **SHORT))
    assert found["structure"] == "channels" and not found["unavailable"]
    assert [row["runner"] for row in found["batches"][0]["rows"]] == ["torch", "torch-removed"]
    assert any("without the channels that change no answer, runs at" in said for said in found["words"])


def test_nothing_to_remove() -> None:
    for made, what in ((subject(), "unstructured"), (units(2), "no channel can be removed alone")):
        found = document(made, How(batches=(2,), runners=["torch", "torch-removed"], **SHORT))
        (why,) = found["unavailable"]
        assert why["runner"] == "torch-removed" and what in why["why"]


def test_two_of_four() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).eval()
    pattern = torch.tensor([True, False, False, True]).repeat(64, 16)
    other = pattern.clone()
    other[3, 5] = True
    mask = ticketlab.Mask({"0.weight": pattern, "2.weight": other, "4.weight": pattern[:10]})
    assert structured_runners.linear_layers(model, mask) == ["0"]
    mask = ticketlab.Mask({"0.weight": pattern, "4.weight": pattern[:10]})
    made = Subject("linear", "made", mask.apply_(model), mask, torch.randn(8, 64), "noise", {})
    found = document(made, How(batches=(64,), runners=["torch", "torch-2:4"], **SHORT))
    assert found["structure"] == "2:4"
    (why,) = found["unavailable"]
    assert why == {"runner": "torch-2:4", "why": "does not run on cpu"}


@pytest.mark.parametrize("removed", [(), (0, 3)])
def test_runners_of_a_pattern_take_part_where_it_is(removed: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(RUNNERS) - {"torch", *STRUCTURED}:
        monkeypatch.delitem(RUNNERS, name)
    found = document(units(*removed), How(batches=(2,), **SHORT))
    assert not found["unavailable"]
    names = [row["runner"] for row in found["batches"][0]["rows"]]
    assert names == (["torch", "torch-removed"] if removed else ["torch"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_two_of_four_on_cuda() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
    pattern = torch.tensor([True, False, False, True]).repeat(128, 32)
    mask = ticketlab.Mask({"0.weight": pattern})
    made = Subject("linear", "made", mask.apply_(model), mask, torch.randn(64, 128), "noise", {})
    call = structured_runners.two_of_four_linear(Case(made, 64, 1, torch.device("cuda")))
    with torch.no_grad():
        assert deviation(call(made.batch(64).cuda()), model(made.batch(64))).wrong("bf16") is None


def test_a_runner_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    called = 0

    def start(case: Case) -> Any:
        def call(inputs: Tensor) -> Tensor:
            nonlocal called
            called += 1
            with torch.no_grad():
                return case.subject.model(inputs) * 1.001

        return call

    monkeypatch.setitem(RUNNERS, "torch", replace(RUNNERS["torch"], start=start))
    found = document(subject(), How(batches=(2,), runners=["torch", "torch-channels-last"], **SHORT))
    (why,) = found["unavailable"]
    assert why["runner"] == "torch" and why["why"].startswith("not timed: outputs differ by") and called == 1
    assert [row["runner"] for row in found["batches"][0]["rows"]] == ["torch-channels-last"]


@pytest.mark.parametrize(("name", "module"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_what_is_not_installed_is_one_line(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(Subject, "onnx", b"")
    found = document(subject(), How(batches=(1,), runners=["torch", name], **SHORT))
    (why,) = found["unavailable"]
    assert why["runner"] == name and why["why"].startswith("not installed: pip install 'ticketlab[")


def test_wrong_outputs() -> None:
    wanted = torch.tensor([[1.0, 2.0], [4.0, -3.0]])
    assert deviation(wanted, wanted).error == 0 and deviation(wanted, wanted).agreement == 1
    apart = deviation(wanted + torch.tensor([[0.0, 0.0], [0.0, 8.0]]), wanted)
    assert apart.error == 2 and apart.agreement == 0.5 and "differ by 2.0e+00" in str(apart.wrong("fp32"))
    assert deviation(wanted[:1], wanted).wrong("bf16") and deviation(wanted * float("nan"), wanted).wrong("bf16")
    assert deviation(wanted * 1.01, wanted).wrong("bf16") is None and deviation(wanted * 1.01, wanted).wrong("fp32")
