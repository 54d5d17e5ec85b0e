"""Precision: fp32 unless asked, refused where a device would imitate it, and never that of scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from engine.engines import LONG, equal, images, job, net, some_mask
from ticketlab.engine import precision
from ticketlab.engine.kinds import open_engine
from ticketlab.engine.precision import check_precision, numerics
from ticketlab.engine.train import train_jobs
from ticketlab.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 is right on every CPU, if slow: its arithmetic can be tested on all of them."""
    monkeypatch.setattr(precision, "_has_bf16", lambda device: True)


@pytest.mark.parametrize("spec", ["plain", "tuned", "tuned+im2col", "stacked:2"])
def test_bf16_is_used_and_weights_stay_fp32(spec: str, imitated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    found = {}
    for kind in ("fp32", "bf16"):
        trainer = open_engine(spec, net(), images(), LONG, precision=kind)
        (found[kind],) = train_jobs(trainer, [job(net(), some_mask(net()))], images(), LONG)
    assert not equal(found["fp32"].weights, found["bf16"].weights)
    assert found["bf16"].diverged_at is None
    assert {t.dtype for t in found["bf16"].weights.values()} == {torch.float32, torch.int64}
    for name, value in found["fp32"].weights.items():
        # Eight bits of mantissa, 28 steps: near, not equal.
        assert torch.allclose(value.float(), found["bf16"].weights[name].float(), atol=0.2), name


def test_convolutions_of_bf16_are_bf16(imitated: None) -> None:
    types = []

    class Watched(tiny.Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            types.append(self.second(torch.relu(self.norm(self.first(x)))).dtype)
            return super().forward(x)

    for kind, wanted in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        trainer = open_engine("tuned", Watched(), images(), LONG, precision=kind)
        types.clear()
        train_jobs(trainer, [job(Watched(), until=1)], images(), LONG)
        assert set(types) == {wanted}


def test_what_a_device_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="asked for precision tf32, got a cpu without it"):
        check_precision("tf32", CPU)
    with pytest.raises(InputError, match=r"fp16.*fp32"):
        check_precision("fp16", CPU)
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    with pytest.raises(InputError, match="asked for precision bf16, got a cpu without bfloat16"):
        check_precision("bf16", CPU)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    check_precision("bf16", CPU)


def test_scores_do_not_change_with_the_precision(tmp_path: Path, imitated: None) -> None:
    masks = {}
    for kind in ("fp32", "bf16"):
        found = tiny.prepared(tmp_path / kind, ["snip"], checks=["rearrange"], precision=kind)
        results = found.run()
        assert results["numerics"]["precision"] == kind
        steps = [s for s in found.plan.steps.values() if s.kind == "prune"]
        masks[kind] = {s.id: found.store.mask(s.id).digest() for s in steps}
    assert masks["fp32"] == masks["bf16"], "the same steps with the same masks"


def test_a_study_keeps_its_precision(tmp_path: Path, imitated: None) -> None:
    tiny.prepared(tmp_path / "s", precision="bf16").run()
    with pytest.raises(InputError, match=r"numerics precision: the study has 'bf16', asked for 'fp32'"):
        tiny.prepared(tmp_path / "s")


def test_numerics_are_put_back_even_after_an_error() -> None:
    def settings() -> tuple[object, ...]:
        found = [getattr(owner, name) for owner, name, _ in precision._rounding("fp32")]
        return (torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, *found)

    before = settings()
    with pytest.raises(RuntimeError, match="inside"), numerics(torch.get_num_threads() + 1, "tf32"):
        assert settings()[0] == before[0] + 1 and settings()[2:4] in ((True, "tf32"), (True, True))
        raise RuntimeError("inside")
    assert before == settings()


def test_im2col_is_the_same_convolution() -> None:
    from ticketlab.engine.convolution import small_maps, small_maps_as_products

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide = nn.Conv2d(3, 4, 3, padding=1)
            self.narrow = nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0))
            self.grouped = nn.Conv2d(6, 6, 1, groups=3)
            self.last = nn.Conv2d(6, 5, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.grouped(self.narrow(self.wide(x))))

    torch.manual_seed(0)
    model, x = Odd(), torch.randn(2, 3, 8, 9, requires_grad=True)
    assert small_maps(model, x.detach()) == ["narrow", "last"]
    names = list(model.state_dict())
    wanted = model(x)
    wanted.square().sum().backward()
    slopes = [x.grad, *(p.grad for p in model.parameters())]
    x.grad = None
    model.zero_grad()
    small_maps_as_products(model, x.detach())
    found = model(x)
    found.square().sum().backward()
    torch.testing.assert_close(found, wanted)
    for one, other in zip([x.grad, *(p.grad for p in model.parameters())], slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 7, 6), (1, 1, 2, 2)])
def test_pooling_by_comparison_is_the_same_pooling(shape: tuple[int, ...]) -> None:
    """Values and gradients, with many ties, of which the first gets the gradient."""
    from ticketlab.engine.pooling import ComparingMaxPool2d, pool_by_comparison

    model = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 1, 1))
    x = torch.randint(3, shape, generator=torch.Generator().manual_seed(0)).float().requires_grad_()
    wanted = model(x)
    weights = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad((wanted * weights).sum(), x)
    pool_by_comparison(model)
    assert type(model[0]) is ComparingMaxPool2d and type(model[1]) is nn.MaxPool2d
    found = model(x)
    assert torch.equal(found, wanted)
    assert torch.equal(torch.autograd.grad((found * weights).sum(), x)[0], slope)
