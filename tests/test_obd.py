"""Optimal brain damage beside dense Hessians, hand cases, and a loss whose rise is known exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import ticketlab
from ticketlab import InputError
from ticketlab.scores.obd import obd
from ticketlab.scoring import Batch, Loss, call_score, private_scoring


def scores_of(
    model: nn.Module,
    batches: list[Batch],
    loss: Loss | None = None,
    mask: dict[str, Tensor] | None = None,
    mode: str = "eval",
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    """The scores of the weights of a model, as ``prune`` would get them."""
    weights = ticketlab.prunable(model)
    with private_scoring(
        model,
        list(weights),
        mask=mask or {n: torch.ones(w.shape, dtype=torch.bool) for n, w in weights.items()},
        batches=batches,
        loss=loss,
        seed=seed,
        mode=mode,
        input_shape=None,
        options=options,
    ) as scoring:
        return call_score(obd, scoring)


def flat(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors.values()])


def diagonal_of(model: nn.Module, batches: list[Batch], loss: Loss | None = None, **options: Any) -> Tensor:
    """The curvature that the scores stand for."""
    return 2 * flat(scores_of(model, batches, loss, **options)) / flat(ticketlab.prunable(model)) ** 2


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in float64 with parameters and statistics of batch norm that are no special case."""
    draw = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64) * (0.6 if p.ndim > 1 else 0.3))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.5, 0.5, generator=draw)
                module.running_var.uniform_(0.5, 1.5, generator=draw)
    return model


def conv_net(activation: type[nn.Module]) -> nn.Module:
    layers = [nn.Conv2d(1, 2, 3, padding=1), activation(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
    return drawn(nn.Sequential(*layers))


def images(size: int = 6, classes: int = 3, channels: int = 1, side: int = 4, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed + 50)
    x = torch.randn(size, channels, side, side, generator=draw, dtype=torch.float64)
    return x, torch.randint(classes, (size,), generator=draw)


def given(model: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """The vector as the model's weights."""
    weights = ticketlab.prunable(model)
    parts = vector.split([w.numel() for w in weights.values()])
    return {n: part.reshape(w.shape) for (n, w), part in zip(weights.items(), parts, strict=True)}


def dense_hessian(model: nn.Module, batch: Batch, loss: Loss = functional.cross_entropy) -> Tensor:
    """The second derivatives of the loss in all weights, by torch."""
    model.eval()
    weights = flat(ticketlab.prunable(model))
    with sdpa_kernel(SDPBackend.MATH):
        found: Tensor = torch.autograd.functional.hessian(
            lambda vector: loss(functional_call(model, given(model, vector), (batch[0],)), batch[1]), weights
        )
    return found


def dense_gauss_newton(model: nn.Module, batch: Batch) -> Tensor:
    """``J^T H J`` of the mean cross-entropy, from dense Jacobians and the textbook ``diag(p) - p p^T``."""
    inputs = batch[0]
    jacobian = torch.autograd.functional.jacobian(
        lambda vector: functional_call(model, given(model, vector), (inputs,)), flat(ticketlab.prunable(model))
    )
    p = model(inputs).detach().softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    return torch.einsum("nci,ncd,ndj->ij", jacobian, inner, jacobian) / len(inputs)


class Product(nn.Module):
    """``f = 2 w1 w2``, for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.first.weight.fill_(3.0)
            self.second.weight.fill_(0.5)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).flatten(1).sum(1).mean() / 2


def test_by_hand() -> None:
    """``L = (2 w1 w2 - 1)^2 / 2`` at (3, 1/2): ``H = [[1, 10], [10, 36]]`` and both saliencies are 4.5."""
    batch = torch.full((1, 1), 2.0).double(), torch.ones(1, 1).double()
    assert dense_hessian(Product(), batch, half_square).tolist() == [[1, 10], [10, 36]]
    assert flat(scores_of(Product(), [batch], half_square)).tolist() == pytest.approx([4.5, 4.5], rel=1e-14)
    draws = flat(scores_of(Product(), [batch], half_square, curvature="hutchinson", draws=1))
    # v (H v) = (1 + 10 v1 v2, 36 + 10 v1 v2), and -9 counts as 0.
    assert draws.tolist() in ([49.5, 5.75], [0.0, 3.25])


def test_linear_regression() -> None:
    x, _ = images(9)
    model = drawn(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    found = diagonal_of(model, [(x, torch.zeros(9, 2).double())], half_square)
    torch.testing.assert_close(found, (x.flatten(1) ** 2).mean(0).repeat(2))


def test_exact_is_the_hessians_diagonal_of_a_relu_net() -> None:
    model, batch = conv_net(nn.ReLU), images()
    dense = dense_hessian(model, batch).diagonal()
    torch.testing.assert_close(diagonal_of(model, [batch]), dense, rtol=1e-8, atol=1e-14)


def test_exact_is_the_gauss_newton_diagonal_of_a_smooth_net() -> None:
    model, batch = conv_net(nn.Tanh), images()
    found = diagonal_of(model, [batch])
    torch.testing.assert_close(found, dense_gauss_newton(model, batch).diagonal(), rtol=1e-8, atol=1e-14)
    assert not torch.allclose(found, dense_hessian(model, batch).diagonal(), rtol=0.01)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_hutchinson_converges_to_the_hessians_diagonal(activation: type[nn.Module]) -> None:
    """The variance of one draw is the sum of squares of the row off the diagonal."""
    model, batch, draws = conv_net(activation), images(), 4000
    dense = dense_hessian(model, batch)
    deviation = ((dense**2).sum(1) - dense.diagonal() ** 2).div(draws).sqrt()
    found = diagonal_of(model, [batch], curvature="hutchinson", draws=draws)
    # Clamping moves no estimate away from a clamped truth.
    off = (found - dense.diagonal().clamp(min=0)).abs()
    assert (found >= 0).all() and (off <= 5 * deviation + 1e-12).all()
    # The bound is worth something: most estimates are within a tenth of the curvature itself.
    assert off.median() < 0.1 * dense.diagonal().abs().median() and off.max() > 0


def test_hutchinson_clamps_negative_curvature() -> None:
    model, batch = conv_net(nn.Tanh), images()
    negative = dense_hessian(model, batch).diagonal() < -0.01
    assert negative.any()
    found = diagonal_of(model, [batch], curvature="hutchinson", draws=2000)
    assert (found[negative] == 0).double().mean() > 0.5


def test_hutchinson_needs_one_draw_for_a_diagonal_hessian() -> None:
    """Inputs that are multiples of unit vectors: no two weights interact."""
    model = drawn(nn.Sequential(nn.Linear(5, 2, bias=False)))
    batch = torch.diag(torch.arange(1.0, 6)).double(), torch.zeros(5, 2).double()
    found = diagonal_of(model, [batch], half_square, curvature="hutchinson", draws=1)
    torch.testing.assert_close(found, (torch.arange(1.0, 6).double() ** 2 / 5).repeat(2))


@pytest.mark.parametrize("curvature", ["exact", "hutchinson"])
def test_the_score_is_the_rise_of_a_quadratic_loss(curvature: str) -> None:
    """At the minimum of a loss without interactions, removing a weight costs exactly its saliency."""
    model = drawn(nn.Sequential(nn.Linear(4, 3, bias=False)))
    inputs = torch.diag(torch.tensor([0.5, 1.0, 2.0, 3.0]).double())
    batch = inputs, model(inputs).detach()
    found = scores_of(model, [batch], half_square, curvature=curvature, draws=2)["0.weight"]
    weight = model[0].weight  # type: ignore[index]
    for place in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        with torch.no_grad():
            kept = weight[tuple(place)].clone()
            weight[tuple(place)] = 0
            rise = half_square(model(inputs), batch[1])
            weight[tuple(place)] = kept
        torch.testing.assert_close(found[tuple(place)], rise)


class Twice(nn.Module):
    """One convolution called twice, and its weight tied to a second module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.again = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.again.weight = self.conv.weight
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(torch.relu(self.conv(x))))
        return self.last(functional.avg_pool2d(torch.relu(self.again(x)), 2).flatten(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1, 2)))
        return self.last(self.attend(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell, self.last = nn.Linear(4, 4), nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.cell(self.first(x.flatten(1, 2)))[0][:, -1])


class Asks(nn.Module):
    """Takes another way for some examples: what vmap cannot do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(32, 3), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([(self.one if one.sum().item() > 0 else self.other)(one.flatten()) for one in x])


def odd_convolutions() -> nn.Module:
    return nn.Sequential(
        nn.ReLU(inplace=True),
        nn.Conv2d(2, 4, 3, padding=2, dilation=2, groups=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(4, 3, 2, stride=2, groups=1, output_padding=0),
        nn.Dropout(0.5),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, (3, 2), stride=(2, 3), padding="valid"),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )


@pytest.mark.parametrize("kind", [odd_convolutions, Twice, Attention, Recurrent, Asks])
def test_unusual_models(kind: Any) -> None:
    """Against the dense Gauss-Newton form: of a shared weight, the second derivatives alone would differ."""
    model, batch = drawn(kind()), images(channels=2)
    torch.testing.assert_close(
        diagonal_of(model, [batch]), dense_gauss_newton(model, batch).diagonal(), rtol=1e-8, atol=1e-14
    )


def test_hutchinson_of_attention() -> None:
    model, batch = drawn(Attention()), images(channels=2)
    dense = dense_hessian(model, batch)
    deviation = ((dense**2).sum(1) - dense.diagonal() ** 2).div(500).sqrt()
    found = diagonal_of(model, [batch], curvature="hutchinson", draws=500)
    assert ((found - dense.diagonal().clamp(min=0)).abs() <= 5 * deviation + 1e-12).all()


@pytest.mark.parametrize("options", [{}, {"curvature": "hutchinson", "draws": 3}])
def test_batches_add_up_in_any_order_and_mode(options: dict[str, Any]) -> None:
    model, (x, y) = drawn(odd_convolutions()), images(11, channels=2)
    whole = flat(scores_of(model, [(x, y)], **options))
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    parts = list(zip(x.split([5, 1, 3, 2]), y.split([5, 1, 3, 2]), strict=True))
    torch.testing.assert_close(flat(scores_of(model, parts, **options)), whole)
    torch.testing.assert_close(flat(scores_of(model, [(x[order], y[order])], **options)), whole)
    for mode in ("train", "keep"):
        assert torch.equal(flat(scores_of(model.train(), [(x, y)], mode=mode, **options)), whole)


def test_many_examples_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = conv_net(nn.Tanh), images(7)
    whole = diagonal_of(model, [batch])
    for room in (0, 3 * 8 * 42 * 2):
        monkeypatch.setattr("ticketlab.scores.columns._BYTES", room)
        torch.testing.assert_close(diagonal_of(model, [batch]), whole)


@pytest.mark.parametrize("curvature", ["exact", "hutchinson"])
def test_repeatable_and_the_model_is_left_alone(curvature: str) -> None:
    model, batch = drawn(odd_convolutions()).train(), images(channels=2)
    state = {n: t.clone() for n, t in model.state_dict().items()}
    before = torch.get_rng_state()
    first = flat(scores_of(model, [batch], curvature=curvature, draws=2))
    assert torch.equal(first, flat(scores_of(model, [batch], curvature=curvature, draws=2)))
    other = flat(scores_of(model, [batch], curvature=curvature, draws=2, seed=1))
    assert torch.equal(first, other) == (curvature == "exact")
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())
    assert all(m.training for m in model.modules()) and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("curvature", ["exact", "hutchinson"])
def test_dead_networks_and_flat_losses_score_zero(curvature: str) -> None:
    dead = conv_net(nn.ReLU)
    with torch.no_grad():
        dead[0].bias.fill_(-1e3)  # type: ignore[index, union-attr]
    assert flat(scores_of(dead, [images()], curvature=curvature, draws=2)).abs().sum() == 0
    linear = drawn(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    flat_losses: list[Loss] = [lambda f, _: f.mean(), lambda f, _: (1 - f).clamp(min=0).mean()]
    for loss in flat_losses:
        assert flat(scores_of(linear, [images()], loss, curvature=curvature, draws=2)).abs().sum() == 0


@pytest.mark.parametrize("curvature", ["exact", "hutchinson"])
def test_removed_weights_score_zero_and_add_no_noise(curvature: str) -> None:
    model = drawn(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    mask = {"1.weight": torch.zeros(3, 16, dtype=torch.bool)}
    mask["1.weight"][1, 5] = True
    batch = images()
    found = scores_of(model, [batch], mask=mask, curvature=curvature, draws=1)["1.weight"]
    left = drawn(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    with torch.no_grad():
        left[1].weight *= mask["1.weight"]  # type: ignore[index, operator]
    truth = dense_hessian(left, batch).diagonal().reshape(3, 16) * left[1].weight.detach() ** 2 / 2  # type: ignore
    torch.testing.assert_close(found, truth)


class Scaled(nn.Module):
    """A loss with tensors of its own."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss(weight=weight)

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs, targets)  # type: ignore[no-any-return]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_and_class_weights(dtype: torch.dtype) -> None:
    model, (x, y) = conv_net(nn.ReLU), images(20)
    share = torch.tensor([1.0, 2.0, 0.5])
    truth = diagonal_of(model, [(x, y)])
    weighted = diagonal_of(model, [(x, y)], Scaled(share.double()))
    torch.testing.assert_close(
        weighted, dense_hessian(model, (x, y), Scaled(share.double())).diagonal(), rtol=1e-8, atol=1e-14
    )
    rough = model.to(dtype)
    tolerance = {"rtol": 1e-3, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.2, "atol": 0.02}
    found = scores_of(rough, [(x.to(dtype), y)])
    assert all(t.dtype == torch.float32 for t in found.values())
    torch.testing.assert_close(diagonal_of(rough, [(x.to(dtype), y)]).double(), truth, **tolerance)
    found_weighted = diagonal_of(rough, [(x.to(dtype), y)], Scaled(share.to(dtype)))
    torch.testing.assert_close(found_weighted.double(), weighted, **tolerance)
    both = scores_of(rough, [(x.to(dtype), y)], curvature="hutchinson", draws=2)
    assert all(t.dtype == torch.float32 and t.isfinite().all() for t in both.values())


def test_images_takes_the_first_of_every_class() -> None:
    model, (x, _) = conv_net(nn.ReLU), images(8)
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    batches = list(zip(x.split([4, 4]), y.split([4, 4]), strict=True))
    for number, chosen in {1: [0], 3: [0, 3, 5], 4: [0, 1, 3, 5], 7: [0, 1, 3, 4, 5, 6, 2], 20: range(8)}.items():
        expected = flat(scores_of(model, [(x[list(chosen)], y[list(chosen)])]))
        torch.testing.assert_close(flat(scores_of(model, batches, images=number)), expected)
    goals = torch.zeros(8, 3).double()
    batches = list(zip(x.split([5, 3]), goals.split([5, 3]), strict=True))
    expected = flat(scores_of(model, [(x[[0, 1, 5]], goals[:3])], half_square))
    torch.testing.assert_close(flat(scores_of(model, batches, half_square, images=3)), expected)


def test_outputs_of_other_shapes() -> None:
    """One output without an axis of its own, and one class for every pixel."""
    draw = torch.Generator().manual_seed(0)
    single = drawn(nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0)))
    x, _ = images()
    y = torch.randint(2, (6,), generator=draw).double()
    loss = functional.binary_cross_entropy_with_logits
    dense = dense_hessian(single, (x, y), loss).diagonal()
    torch.testing.assert_close(diagonal_of(single, [(x, y)], loss), dense)
    pixels = drawn(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 1)))
    labels = torch.randint(3, (6, 2, 2), generator=draw)
    dense = dense_hessian(pixels, (x, labels)).diagonal()
    torch.testing.assert_close(diagonal_of(pixels, [(x, labels)]), dense)


def test_what_it_refuses() -> None:
    model, batch = conv_net(nn.ReLU), images()
    with pytest.raises(InputError, match=r"asked for curvature 'exakt'.*Did you mean 'exact'"):
        scores_of(model, [batch], curvature="exakt")
    with pytest.raises(InputError, match="asked for 0 draws"):
        scores_of(model, [batch], curvature="hutchinson", draws=0)
    with pytest.raises(InputError, match="asked for -1 images"):
        scores_of(model, [batch], images=-1)
    with pytest.raises(InputError, match="reads data, got none"):
        scores_of(model, [])
    with pytest.raises(InputError, match="convex in the outputs"):
        scores_of(model, [batch], lambda f, _: -(f**2).mean())
    with pytest.raises(InputError, match=r"outputs for each example, got \(18,\) for 6 inputs"):
        scores_of(nn.Sequential(model, nn.Flatten(0)), [batch], lambda f, _: (f**2).mean())
    nan = batch[0] * torch.nan, batch[1]
    with pytest.raises(InputError, match="finite outputs, got NaN"):
        scores_of(model, [nan])
