"""Numbers that the theory gives: how masks of many kinds compare, and what sampling instead of top-k does to a net."""

from __future__ import annotations

import itertools
import math
import warnings

import pytest
import torch
from torch import Tensor, nn

import ticketlab
from ticketlab import EmptyLayerWarning, seeding, select
from ticketlab.sketch import (
    best_shrinkage,
    expected_error,
    expected_error_over_data,
    inclusion,
    mask_errors,
    optimal_error,
    poisson_error,
    probabilities,
    sample_mask,
)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeding.generator(seed, *shape), dtype=torch.float64)


def by_magnitude(w: Tensor) -> Tensor:
    return w.abs() / w.abs().sum(-1, keepdim=True)


def uniform(w: Tensor) -> Tensor:
    return torch.full_like(w, 1 / w.shape[-1])


def relative(w: Tensor, p: Tensor, s: int) -> Tensor:
    """The expected error over data of independent, equally long columns, relative to the product's squared length."""
    return expected_error_over_data(w.new_ones(w.shape[-1]), w, p, s, 1) / w.square().sum(-1)


@pytest.mark.parametrize("d", [50, 500, 5000])
def test_sampling_by_magnitude_has_two_over_pi_of_the_error_of_uniform_sampling(d: int) -> None:
    w, ones = gaussian(200_000 // d * 5, d), torch.ones(d, dtype=torch.float64)
    errors = [expected_error_over_data(ones, w, p, 10, 1).mean() for p in (by_magnitude(w), uniform(w))]
    assert float(errors[0] / errors[1]) == pytest.approx(2 / math.pi, rel=0.005)


def test_at_a_tenth_of_the_weights_the_rescaled_sketch_is_six_times_worse_than_nothing() -> None:
    w = gaussian(20, 4000)
    assert float(relative(w, by_magnitude(w), 400).mean()) == pytest.approx(6.4, abs=0.05)
    # More than 0.64 d draws are needed to be better than predicting zero.
    assert relative(w, by_magnitude(w), 2400).min() > 1 > relative(w, by_magnitude(w), 2700).max()


def one_of(draws: list[float], printed: float) -> bool:
    """A printed figure, which comes from one draw, is within 3 deviations of other draws, and its own rounding."""
    digits = len(f"{printed:g}".partition(".")[2])
    values = torch.tensor(draws, dtype=torch.float64)
    return abs(printed - float(values.mean())) <= 3 * float(values.std()) + 0.5 * 10**-digits


# Relative squared errors at d = 4000: rescaled with replacement, uniform, Poisson, best shrunk, then masks of ones and
# zeros: with replacement, without, top-k, random.
MASKS = {
    0.50: (1.27, 2.00, 0.311, 0.559, 0.397, 0.222, 0.071, 0.50),
    0.20: (3.16, 5.0, 2.16, 0.760, 0.678, 0.630, 0.348, 0.80),
    0.10: (6.36, 10, 5.36, 0.864, 0.822, 0.806, 0.558, 0.90),
    0.05: (12.8, 20, 11.8, 0.928, 0.906, 0.905, 0.728, 0.95),
    0.02: (32.5, 50, 31.5, 0.970, 0.962, 0.962, 0.870, 0.98),
}


def test_a_poisson_mask_saves_almost_one_against_drawing_with_replacement() -> None:
    for s in (40, 80, 400):
        w = gaussian(4000)
        q = inclusion(w.abs(), s)
        # As long as no coordinate is kept for certain, the two differ by 1 - 1 / s.
        assert float(q.max()) < 1
        # One row of ones has columns of length one, which is all that the error of independent coordinates reads.
        poisson = poisson_error(torch.ones(1, 4000, dtype=torch.float64), w, q) / w.square().sum()
        torch.testing.assert_close(poisson, relative(w, by_magnitude(w), s) - 1 + 1 / s)


@pytest.mark.parametrize("density", MASKS)
def test_masks_of_all_kinds_on_data_without_structure(density: float) -> None:
    d, s = 4000, round(4000 * density)
    rows = []
    for seed in range(30):
        w = gaussian(d, seed=seed)
        energy, p = w.square(), by_magnitude(w)
        q = inclusion(w.abs(), s)
        rescaled = relative(w, p, s)
        binary = [
            sample_mask(t, s, seeding.generator(seed), replacement=again, rescale=False, masks=5)
            for t, again in ((p, True), (p, False), (uniform(w), False))
        ]
        removed = [float(((1 - m) * energy).sum(1).mean() / energy.sum()) for m in binary]
        row = (
            float(rescaled),
            float(relative(w, uniform(w), s)),
            float(poisson_error(torch.ones(1, d, dtype=torch.float64), w, q) / energy.sum()),
            float(best_shrinkage(torch.ones(1, 1).double(), torch.ones(1).double(), rescaled).error),
            removed[0],
            removed[1],
            float(energy.sort().values[: d - s].sum() / energy.sum()),
            removed[2],
        )
        rows.append(row)
    for got, printed in zip(zip(*rows, strict=True), MASKS[density], strict=True):
        assert one_of(list(got), printed)


@pytest.mark.parametrize(("density", "printed"), [(0.5, 0.71), (0.1, 0.93), (0.02, 0.985)])
def test_with_replacement_fewer_are_kept_than_drawn(density: float, printed: float) -> None:
    s = round(4000 * density)
    shares = [
        float((sample_mask(by_magnitude(gaussian(4000, seed=seed)), s, masks=20) > 0).double().sum(1).mean()) / s
        for seed in range(5)
    ]
    assert sum(shares) / 5 == pytest.approx(printed, abs=0.006)


@pytest.mark.parametrize(
    ("rho", "printed"), [(0, 6.3), (0.01, 0.94), (0.05, 0.15), (0.1, 0.12), (0.2, 0.04), (0.5, 0.01)]
)
def test_coherence_makes_sampling_better_than_top_k(rho: float, printed: float) -> None:
    """Columns share a direction in which all terms add up: then a few of them, rescaled, give the whole sum."""
    sketches, tops = [], []
    for seed in range(30):
        w, common = gaussian(1000, seed=seed), gaussian(50, 1, seed=seed)
        X = (1 - rho) ** 0.5 * gaussian(50, 1000, seed=seed) + rho**0.5 * common * w.sign()
        energy = (X @ w).square().sum()
        sketches.append(float(optimal_error(X, w, 100) / energy))
        kept = (X.square().sum(0).sqrt() * w.abs()).topk(100).indices
        tops.append(float(mask_errors(X, w, torch.zeros(1, 1000).double().index_fill_(1, kept, 1)) / energy))
    # The length of the shared direction varies from draw to draw, and a printed figure is one of them, rounded.
    assert one_of(sketches, printed)
    assert 0.4 < sum(tops) / 30 < 0.6
    assert (max(sketches) < min(tops)) == (rho >= 0.05) and (min(sketches) > max(tops)) == (rho == 0)


def test_of_terms_that_all_add_up_any_sample_gives_the_sum_but_not_the_largest() -> None:
    X = torch.ones(1, 2000, dtype=torch.float64)
    errors = []
    for seed in range(20):
        a = -torch.rand(2000, generator=seeding.generator(seed), dtype=torch.float64).log()
        assert optimal_error(X, a, 200) < 1e-12 * a.sum().square()
        assert mask_errors(X, a, sample_mask(by_magnitude(a), 200, masks=5)).max() < 1e-20 * a.sum().square()
        errors.append(float((1 - a.topk(200).values.sum() / a.sum()).square()))
    assert one_of(errors, 0.44)
    # The largest tenth of an exponential distribution holds (1 + log 10) / 10 of its sum.
    assert sum(errors) / 20 == pytest.approx((0.9 - 0.1 * math.log(10)) ** 2, abs=0.01)


def movement(d: int, tau: float, mix: float, runs: int) -> float:
    """The median error of sampling by the initial magnitudes over that of uniform sampling, where weights moved."""
    ratios = []
    for seed in range(runs):
        w0 = gaussian(d, seed=seed)
        w = w0 + tau * gaussian(1, d, seed=seed)[0]
        ratios.append(relative(w, (1 - mix) * by_magnitude(w0) + mix / d, 100) / relative(w, uniform(w), 100))
    return float(torch.stack(ratios).median())


@pytest.mark.parametrize(
    ("d", "tau", "mix", "printed"),
    [
        *[(10_000, tau, 0.0, r) for tau, r in ((0, 0.64), (0.1, 0.69), (0.2, 0.85), (0.27, 1.03), (0.3, 1.13))],
        *[(10_000, 0.5, 0.0, 1.87), (10_000, 1.0, 0.0, 3.6), (1000, 0.3, 0.0, 1.0), (100_000, 0.23, 0.0, 1.0)],
        *[(10_000, tau, 0.1, r) for tau, r in ((0, 0.64), (0.3, 0.74), (0.5, 0.88), (1, 1.23), (2, 1.59))],
    ],
)
def test_how_far_weights_may_move_from_the_start(d: int, tau: float, mix: float, printed: float) -> None:
    assert movement(d, tau, mix, 40 if d > 10_000 else 150) == pytest.approx(printed, rel=0.05)


# --- Layers, SNIP and SynFlow as sketches.

WIDTHS = (30, 24, 20, 5)


def forward(W: list[Tensor], X: Tensor, relu: bool) -> Tensor:
    for layer, w in enumerate(W):
        X = X @ w.mT
        X = X.relu() if relu and layer < len(W) - 1 else X
    return X


def small_nets() -> dict[bool, tuple[list[Tensor], Tensor, Tensor]]:
    """A linear net and a ReLU net with 40 Gaussian inputs and random labels: the draws behind the figures below."""
    made = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for relu in (False, True):
            gain = 2 if relu else 1
            W = [
                (torch.randn(b, a, dtype=torch.float64) * math.sqrt(gain / a)).requires_grad_()
                for a, b in itertools.pairwise(WIDTHS)
            ]
            made[relu] = (W, torch.randn(40, WIDTHS[0], dtype=torch.float64), torch.randint(0, WIDTHS[-1], (40,)))
    return made


def jacobians(W: list[Tensor], X: Tensor, relu: bool) -> list[Tensor]:
    rows = [torch.autograd.grad(out, W, retain_graph=True) for out in forward(W, X, relu).reshape(-1)]
    return [torch.stack([row[layer].reshape(-1) for row in rows]) for layer in range(len(W))]


def synflow(W: list[Tensor], power: int = 1) -> list[Tensor]:
    """SynFlow's scores of ``|w|^power``, with the power taken back: ``power=2`` adds up the energies of paths."""
    alone = [w.detach().abs().pow(power).requires_grad_() for w in W]
    flow = forward(alone, torch.ones(1, WIDTHS[0], dtype=torch.float64), relu=False).sum()
    grads = torch.autograd.grad(flow, alone)
    return [(w.detach() * g).reshape(-1).pow(1 / power) for w, g in zip(alone, grads, strict=True)]


# Relative errors of 60 draws for each layer: optimal, SynFlow, SynFlow of squared weights, magnitude, uniform, SNIP.
LAYERS = {
    False: ["6.04 6.85 6.76 6.72 10.80 48.6", "3.91 3.97 3.94 4.50 7.78 23.3", "0.97 1.02 1.02 1.06 1.71 3.5"],
    True: ["12.57 13.47 13.40 13.39 20.18 58.2", "8.30 9.91 9.99 11.33 16.65 54.0", "1.81 2.43 2.42 2.43 3.75 13.5"],
}


@pytest.mark.parametrize("relu", [False, True])
def test_masking_a_layer_is_a_sketch_of_its_jacobian(relu: bool) -> None:
    W, X, labels = small_nets()[relu]
    out = forward(W, X, relu).detach().reshape(-1)
    loss = nn.functional.cross_entropy(forward(W, X, relu), labels)
    grads = [g.reshape(-1) for g in torch.autograd.grad(loss, W)]
    columns = zip(jacobians(W, X, relu), W, synflow(W), synflow(W, 2), grads, LAYERS[relu], strict=True)
    for J, weight, flow, energies, grad, printed in columns:
        w = weight.detach().reshape(-1)
        # A homogeneous net is its layer's Jacobian times the layer's weights (Euler), so the layer's mask sketches it.
        torch.testing.assert_close(J @ w, out, rtol=0, atol=1e-13)
        kinds = [
            probabilities(J, w, "optimal"),
            flow / flow.sum(),
            energies / energies.sum(),
            by_magnitude(w),
            uniform(w),
            probabilities(J, w, "snip", grad=grad),
        ]
        got = [float(expected_error(J, w, p, 60) / out.square().sum()) for p in kinds]
        for value, figure in zip(got, printed.split(), strict=True):
            assert f"{value:.{len(figure.partition('.')[2])}f}" == figure
        assert got[0] == min(got) and max(got) == got[-1]


@pytest.mark.parametrize(("relu", "printed"), [(False, (0.606, 1.29, 2.66)), (True, (0.977, 2.39, 4.16))])
def test_snip_draws_best_for_the_scalar_product_of_gradient_and_weights(relu: bool, printed: tuple[float, ...]) -> None:
    W, X, labels = small_nets()[relu]
    loss = nn.functional.cross_entropy(forward(W, X, relu), labels)
    g = torch.cat([grad.reshape(-1) for grad in torch.autograd.grad(loss, W)])[None]
    w = torch.cat([layer.detach().reshape(-1) for layer in W])
    snip = probabilities(g, w, "snip", grad=g[0])
    torch.testing.assert_close(snip, probabilities(g, w, "optimal"))
    torch.testing.assert_close(expected_error(g, w, snip, 60), optimal_error(g, w, 60))
    for p, figure in zip((snip, by_magnitude(w), uniform(w)), printed, strict=True):
        assert float(expected_error(g, w, p, 60)) == pytest.approx(figure, abs=0.0051)


def test_a_sketch_of_the_synaptic_flow_has_no_variance() -> None:
    scores = synflow(small_nets()[True][0])
    flows = torch.stack([s.sum() for s in scores])
    # Every layer carries the whole flow.
    torch.testing.assert_close(flows, flows[:1].expand(3))
    everything = torch.cat(scores)
    X = torch.ones(1, len(everything), dtype=torch.float64)
    masks = sample_mask(everything / everything.sum(), 60, masks=100)
    torch.testing.assert_close(masks @ everything, (3 * flows[0]).expand(100))
    assert optimal_error(X, everything, 60) < 1e-14 * everything.sum().square()


# --- Sampling instead of top-k.


@pytest.mark.parametrize(
    ("scores", "kept", "printed", "digits"),
    [
        ((5, 3, 1, 1, 0.5, 0.2), 3, (0.93, 0.83, 0.45, 0.45, 0.24, 0.10), 0.0051),
        ((0.5, 0.3, 0.2), 2, (0.83929, 0.67500, 0.48571), 0.0),
    ],
)
def test_how_often_a_draw_without_replacement_keeps_each(
    scores: tuple[float, ...], kept: int, printed: tuple[float, ...], digits: float
) -> None:
    p, want = torch.tensor(scores, dtype=torch.float64), torch.tensor(printed, dtype=torch.float64)
    masks = sample_mask(p / p.sum(), kept, seeding.generator(0), replacement=False, rescale=False, masks=400_000)
    error = 4 * (want * (1 - want) / 400_000).sqrt()
    assert bool(((masks.mean(0) - want).abs() <= error + digits).all())


def test_a_selection_keeps_with_the_same_frequencies() -> None:
    scores, alive = {"layer": torch.tensor([0.5, 0.3, 0.2])}, {"layer": torch.ones(3, dtype=torch.bool)}
    drawn = torch.stack([select.sampled(scores, 2, alive, seed)["layer"] for seed in range(2000)])
    want = torch.tensor([0.83929, 0.67500, 0.48571]).double()
    torch.testing.assert_close(drawn.double().mean(0), want, rtol=0, atol=0.045)


def kept_energy(method: str, seeds: int) -> float:
    """The share of the squared Gaussian weights that a mask of one in ten keeps."""
    shares = []
    for seed in range(seeds):
        net = nn.Linear(200, 100, bias=False)
        with torch.no_grad():
            net.weight.copy_(gaussian(100, 200, seed=seed))
        energy = net.weight.detach().square()
        mask = ticketlab.prune(net, method, 0.9, seed=seed)["weight"]
        assert int(mask.sum()) == 2000
        shares.append(float((energy * mask).sum() / energy.sum()))
    return sum(shares) / seeds


@pytest.mark.parametrize(
    ("method", "printed"),
    [
        *[(f"magnitude+sampled,rounds={r}", e) for r, e in ((1, 0.185), (2, 0.246), (5, 0.308), (10, 0.338))],
        *[(f"magnitude+sampled,rounds={r}", e) for r, e in ((30, 0.373), (100, 0.390))],
        ("magnitude+sampled,rounds=1,temperature=0", 0.100),
        ("magnitude", 0.440),
    ],
)
def test_drawing_in_every_round_approaches_top_k(method: str, printed: float) -> None:
    assert kept_energy(method, 2 if "rounds=100" in method else 4) == pytest.approx(printed, abs=0.012)


@pytest.mark.slow
def test_drawing_in_every_of_300_rounds() -> None:
    assert kept_energy("magnitude+sampled,rounds=300", 4) == pytest.approx(0.406, abs=0.012)


# Weights kept in each layer of a 784-300-100-10 net.
LAYER_COUNTS = {
    ("synflow+sampled,rounds=1,replacement=true", 0.1): (8608, 7100, 933),
    ("synflow+sampled,rounds=1", 0.1): (14862, 10797, 961),
    ("synflow,rounds=1", 0.1): (3481, 22152, 987),
    ("synflow+sampled,rounds=1,replacement=true", 0.02): (1760, 1685, 697),
    ("synflow+sampled,rounds=1", 0.02): (2356, 2207, 761),
    ("synflow,rounds=1", 0.02): (0, 4360, 964),
    ("synflow+sampled,rounds=1,replacement=true", 0.005): (438, 443, 323),
    ("synflow+sampled,rounds=1", 0.005): (493, 487, 351),
    ("synflow,rounds=1", 0.005): (0, 398, 933),
}


@pytest.mark.parametrize(("method", "density"), LAYER_COUNTS)
def test_one_draw_of_synflow_keeps_every_layer(method: str, density: float) -> None:
    counts = []
    for seed in range(6):
        net = nn.Sequential(*[nn.Linear(a, b, bias=False) for a, b in ((784, 300), (300, 100), (100, 10))])
        with torch.no_grad():
            for seat, layer in enumerate(net):
                layer.weight.copy_(
                    gaussian(*layer.weight.shape, seed=seed * 3 + seat) * (2 / layer.weight.shape[1]) ** 0.5
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyLayerWarning)
            mask = ticketlab.prune(net, method, 1 - density, input_shape=(784,), seed=seed)
        counts.append([int(m.sum()) for m in mask.values()])
    for got, printed in zip(torch.tensor(counts).double().mean(0).tolist(), LAYER_COUNTS[method, density], strict=True):
        assert got == pytest.approx(printed, rel=0.04, abs=12)
