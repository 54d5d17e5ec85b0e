"""What holds for every registered method on every model of the zoo."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from zoo import ZOO, Exhibit

import ticketlab
from ticketlab import InputError, Mask, budget
from ticketlab import program as programs
from ticketlab.methods import METHODS, SAMPLED, Method

# Many layers of the zoo have a dozen weights: an emptied one is a result here.
pytestmark = pytest.mark.filterwarnings("ignore::ticketlab.errors.EmptyLayerWarning")

SPARSITY = 0.6
# Fewer rounds than the default of 100: the same code, sooner.
OPTIONS: dict[str, dict[str, Any]] = {
    m: {"rounds": 5} for m in ("synflow", "synflow-l2", "synflow+sampled", "synflow-l2+sampled")
}
# At this sparsity this budget has no solution in models as small as these; the error says so.
INFEASIBLE = {name: "alone keeps" for name, method in METHODS.items() if method.budget == "smart"}

# A sampled twin has the score of its method: a few models show that the draw holds for it too.
DRAWN_ON = ("mlp", "residual", "tied-embedding", "attention", "float64", "half", "subclassed")
TWINS = [m for m in METHODS if m.endswith(SAMPLED)]

methods = pytest.mark.parametrize("method", list(METHODS))
everywhere = pytest.mark.parametrize(
    ("name", "method"), [(n, m) for n in ZOO for m in METHODS if m not in TWINS or n in DRAWN_ON]
)


def prune(exhibit: Exhibit, method: str, sparsity: float = SPARSITY, **changed: Any) -> Mask:
    """The method's mask of the exhibit, with data."""
    arguments = {"model": exhibit.model(), "data": exhibit.data(), **OPTIONS.get(method, {}), **changed}
    return ticketlab.prune(arguments.pop("model"), method, sparsity, **arguments)


def scored(name: str, method: str) -> Exhibit:
    """The exhibit, if the method can score it; an ``InputError`` is demanded where the table says so."""
    exhibit = ZOO[name]
    for refused, words in exhibit.refused:
        if method.removesuffix(SAMPLED) in refused:
            with pytest.raises(InputError, match=words):
                prune(exhibit, method)
            pytest.skip(f"{method} refuses {name}, as listed")
    return exhibit


def exact(mask: Mask, sparsity: float) -> bool:
    return mask.kept == round((1 - sparsity) * mask.total)


def same_positions(one: Mask, other: Mask) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


@everywhere
def test_count_names_and_shapes(name: str, method: str) -> None:
    exhibit = scored(name, method)
    model = exhibit.model()
    mask = prune(exhibit, method)
    assert exact(mask, SPARSITY)
    weights = dict(model.named_parameters())
    assert list(mask) == [n for n in weights if n in mask] == list(ticketlab.prunable(model))
    assert all(mask[n].shape == weights[n].shape and mask[n].dtype == torch.bool for n in mask)


@everywhere
def test_nothing_removed_at_sparsity_zero(name: str, method: str) -> None:
    mask = prune(scored(name, method), method, 0.0)
    assert mask.kept == mask.total > 0


@everywhere
def test_few_weights_left(name: str, method: str) -> None:
    exhibit = scored(name, method)
    try:
        mask = prune(exhibit, method, 0.97)
    except InputError as error:
        assert method in INFEASIBLE and INFEASIBLE[method] in str(error)
    else:
        assert exact(mask, 0.97)


@methods
def test_no_weight_left_is_a_result(method: str) -> None:
    if method in INFEASIBLE:
        with pytest.raises(InputError, match=INFEASIBLE[method]):
            prune(ZOO["conv-norm"], method, 0.9999)
    else:
        mask = prune(ZOO["conv-norm"], method, 0.9999)
        assert mask.kept == 0 and mask.empty_layers == list(mask)


def test_emptied_layer_is_announced() -> None:
    with pytest.warns(ticketlab.errors.EmptyLayerWarning, match=r"leaves no weight in: .*8\.weight"):
        prune(ZOO["conv-norm"], "magnitude", 0.9999)


@everywhere
def test_same_seed_same_mask(name: str, method: str) -> None:
    exhibit = scored(name, method)
    one = prune(exhibit, method, seed=3)
    torch.rand(7), random.random(), np.random.rand()
    assert prune(exhibit, method, seed=3) == one


@everywhere
def test_other_seed_other_mask_only_if_random(name: str, method: str) -> None:
    exhibit = scored(name, method)
    if exhibit.dtype in (torch.float16, torch.bfloat16):
        pytest.skip("scores of half precision tie, and ties go by the seed")
    model = exhibit.model().eval()
    draws = METHODS[method].select in ("random", "sampled") or method == "grasp"
    options = {"mode": "eval"} if METHODS[method].score else {}
    one, other = (prune(exhibit, method, model=model, seed=s, **options) for s in (1, 2))
    if draws:
        # GraSP re-draws the linear layers only.
        assert one != other
    else:
        # Without dropout nothing is drawn; where whole units are dead, zero scores tie.
        weights = ticketlab.prunable(model)
        distinct = all(bool((w != 0).all()) for w in weights.values())
        dead_units = method in ("snip", "synflow", "synflow-l2", "sketch-jacobian", "sketch-ntk")
        assert distinct and (one == other or dead_units)


class Crash(RuntimeError):
    """What a score raises midway."""


def _hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
    pass


def _lived_in(exhibit: Exhibit) -> nn.Module:
    """A model with modes, gradients, flags and hooks of its own."""
    model = exhibit.model()
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 3.0) if index % 2 else None
        parameter.requires_grad_(index % 3 != 2)
    first = next(iter(ticketlab.prunable(model).values()))
    if first.requires_grad:
        first.register_hook(_grad_hook)
    for module in model.modules():
        module.register_forward_hook(_hook)
    return model


def _grad_hook(grad: Tensor) -> Tensor:
    raise AssertionError("a gradient reached the user's parameter")


def _picture(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the global state that pruning must leave alone, bit by bit."""
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    hooks = [n for n in vars(nn.Module()) if "hooks" in n]
    return {
        "tensors": {n: (id(t), t._version, t.dtype, _bytes(t)) for n, t in tensors.items()},
        "flags": {n: (t.requires_grad, t.is_leaf) for n, t in tensors.items()},
        "grads": {n: None if t.grad is None else (id(t.grad), _bytes(t.grad)) for n, t in tensors.items()},
        "parameter hooks": {n: list((t._backward_hooks or {}).values()) for n, t in tensors.items()},
        "modes": {n: m.training for n, m in model.named_modules()},
        "modules": {n: id(m) for n, m in model.named_modules()},
        "hooks": {n: {h: list(getattr(m, h)) for h in hooks} for n, m in model.named_modules()},
        "torch": torch.get_rng_state().tolist(),
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "switches": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()),
    }


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for what in before:
        assert after[what] == before[what], what


@everywhere
def test_model_and_random_state_untouched(name: str, method: str) -> None:
    exhibit = scored(name, method)
    model, data = _lived_in(exhibit), exhibit.data()
    before, seen = _picture(model), copy.deepcopy(data)
    prune(exhibit, method, model=model, data=data)
    _assert_same(before, _picture(model))
    for (x, y), (seen_x, seen_y) in zip(data, seen, strict=True):
        assert torch.equal(x, seen_x) and torch.equal(y, seen_y)


def crashing(scoring: ticketlab.Scoring) -> dict[str, Tensor]:
    """Does all that a score should not, then fails."""
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    scoring.model.double().eval().requires_grad_(False)
    scoring.model.register_forward_hook(_hook)
    for tensor in [*scoring.model.parameters(), *scoring.model.buffers()]:
        tensor.detach().zero_()
    for mask in scoring.mask.values():
        mask.zero_()
    raise Crash("midway")


@pytest.mark.parametrize("name", list(ZOO))
def test_untouched_when_the_score_raises(name: str) -> None:
    exhibit = ZOO[name]
    model = _lived_in(exhibit)
    before = _picture(model)
    with pytest.raises(InputError, match="midway"):
        ticketlab.prune(model, crashing, 0.5, data=exhibit.data())
    with pytest.raises(InputError, match="midway"):
        ticketlab.prune(model, crashing, 0.5)
    _assert_same(before, _picture(model))


def meddling(scoring: ticketlab.Scoring) -> dict[str, Tensor]:
    """Changes the mask that it was shown, and gives every weight the same score."""
    for mask in scoring.mask.values():
        mask.zero_()
    return {name: torch.zeros_like(weight) for name, weight in scoring.weights.items()}


def test_a_score_cannot_change_the_mask() -> None:
    mask = ticketlab.prune(ZOO["mlp"].model(), Method("meddling", score=meddling, rounds=3), 0.5)
    assert exact(mask, 0.5)


@pytest.fixture(params=["no_grad", "inference_mode"])
def context(request: pytest.FixtureRequest) -> Iterator[None]:
    with getattr(torch, request.param)():
        yield


@methods
@pytest.mark.parametrize("name", ["conv-norm", "dropout", "attention-fast", "tied-embedding"])
def test_without_gradients(name: str, method: str, context: None) -> None:
    exhibit = scored(name, method)
    mask = prune(exhibit, method)
    with torch.inference_mode(False), torch.enable_grad():
        assert mask == prune(exhibit, method)


@everywhere
def test_wrapped_model_gives_the_same_mask(name: str, method: str) -> None:
    exhibit = scored(name, method)
    bare = prune(exhibit, method)
    parallel = prune(exhibit, method, model=nn.DataParallel(exhibit.model()))
    compiled = prune(exhibit, method, model=torch.compile(exhibit.model(), backend="eager"))
    assert list(parallel) == [f"module.{n}" for n in bare] and same_positions(bare, parallel)
    assert list(compiled) == [f"_orig_mod.{n}" for n in bare] and same_positions(bare, compiled)


@everywhere
def test_data_are_needed_or_ignored(name: str, method: str) -> None:
    exhibit = scored(name, method)
    if METHODS[method].reads_data:
        for none in (None, []):
            with pytest.raises(InputError, match="reads data, got none"):
                prune(exhibit, method, data=none)
        if exhibit.dtype in (torch.float32, torch.float64):
            assert prune(exhibit, method, data=exhibit.data(40)) != prune(exhibit, method)
    else:
        mask = prune(exhibit, method)
        assert prune(exhibit, method, data=None, input_shape=exhibit.shape) == mask
        assert prune(exhibit, method, data=exhibit.data(40)) == mask


@everywhere
def test_weights_are_read_or_not(name: str, method: str) -> None:
    exhibit = scored(name, method)
    # GraSP's authors score linear layers that are drawn anew.
    options = {"redraw_classifier": False} if method.startswith("grasp") else {}
    one, other = (prune(exhibit, method, model=exhibit.model(seed), **options) for seed in (0, 1))
    assert (one != other) if METHODS[method].reads_weights else (one == other)


@methods
@pytest.mark.parametrize("name", ["mlp", "conv-norm", "float64", "dropout"])
def test_float64(name: str, method: str) -> None:
    exhibit = scored(name, method)
    data = [(x.double(), y) for x, y in exhibit.data()]
    mask = prune(exhibit, method, model=exhibit.model().double(), data=data)
    assert exact(mask, SPARSITY)
    if exhibit.dtype == torch.float64:
        assert mask == prune(exhibit, method)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in TWINS])
@pytest.mark.parametrize("name", ["mlp", "conv-norm", "residual"])
def test_inverted(name: str, method: str) -> None:
    exhibit = scored(name, method)
    if METHODS[method].score is None:
        with pytest.raises(InputError, match="no score to select by"):
            prune(exhibit, method, select="inverted")
        return
    # Distinct scores: in double precision, with eval-mode norms, leaky instead of dead units would change the model.
    model = exhibit.model().double().eval()
    data = [(x.double(), y) for x, y in exhibit.data()]
    common = {"model": model, "data": data, "mode": "eval", "rounds": 1}
    high = prune(exhibit, method, 0.5, **common)
    low = prune(exhibit, method, 0.5, select="inverted", **common)
    assert exact(low, 0.5)
    if METHODS[method].budget != "global":
        # As few as the counts allow: of a layer that keeps more than half, some are high and low.
        shared = {n: int((high[n] & low[n]).sum()) for n in high}
        assert shared == {n: max(0, 2 * kept - size) for n, (kept, size) in high.counts().items()}
    elif not method.startswith("synflow"):
        assert high.overlap(low) < 0.1
    assert low != high


def test_inverted_twice_is_not_inverted() -> None:
    from ticketlab.pruning import find_mask

    model = ZOO["mlp"].model()
    for select, invert, expected in [
        ("inverted", True, "top-k"),
        ("top-k", True, "inverted"),
        ("inverted", False, "inverted"),
    ]:
        method = Method("m", score=METHODS["magnitude"].score, select=select)
        plain = Method("m", score=METHODS["magnitude"].score, select=expected)
        found = find_mask(model, method, {}, 0.7, batches=[], invert=invert)
        assert found == find_mask(model, plain, {}, 0.7, batches=[])
    low = find_mask(model, METHODS["magnitude"], {}, 0.5, batches=[], invert=True)
    high = find_mask(model, METHODS["magnitude"], {}, 0.5, batches=[])
    assert high.overlap(low) == 0 and high.kept + low.kept == high.total


@methods
@pytest.mark.parametrize("frame", ["uniform", "erk", "smart", "global"])
@pytest.mark.parametrize("select", ["top-k", "random"])
def test_every_choice_of_budget_and_selection(method: str, frame: str, select: str) -> None:
    exhibit = ZOO["residual"]
    if METHODS[method].score is None and select == "top-k":
        with pytest.raises(InputError, match="no score"):
            prune(exhibit, method, budget=frame, select=select)
        return
    mask = prune(exhibit, method, 0.5, budget=frame, select=select)
    assert exact(mask, 0.5)
    if frame != "global":
        counts = {"uniform": budget.uniform, "erk": budget.erk, "smart": budget.smart}[frame]
        assert budget.from_mask(mask) == counts(exhibit.model(), 0.5)


@methods
@pytest.mark.parametrize("name", ["conv-norm", "residual"])
def test_every_method_gives_and_takes_counts(name: str, method: str) -> None:
    """As a donor its counts are kept by another method; with a donor it keeps those of the donor."""
    exhibit = scored(name, method)
    options = "".join(f"/{key}={value}" for key, value in OPTIONS.get(method, {}).items())
    own, given = prune(exhibit, method), prune(exhibit, "magnitude", budget=f"ratios:{method}{options}")
    taken = prune(exhibit, method, budget="ratios:erk")
    assert budget.from_mask(given) == budget.from_mask(own)
    assert budget.from_mask(taken) == budget.erk(exhibit.model(), SPARSITY) != budget.from_mask(own) or method == "erk"
    for kept in (given, own):
        # Positions are the taker's, whatever the donor's are.
        by_size = all(ranked(n, exhibit.model(), kept) for n in kept)
        largest = METHODS[method].score is METHODS["magnitude"].score and METHODS[method].select == "top-k"
        assert by_size == (kept is given or largest)


def ranked(name: str, model: nn.Module, mask: Mask) -> bool:
    """Whether a layer keeps its largest weights."""
    kept, size = mask[name], dict(model.named_parameters())[name].detach().abs()
    return bool(kept.all() or not kept.any() or size[kept].min() >= size[~kept].max())


@methods
def test_programs_end_in_a_training_and_say_what_it_starts_from(method: str) -> None:
    chosen, options = ticketlab.methods.configured(METHODS[method], {})
    program = programs.validated(chosen.program(SPARSITY, options), method)
    before = [stage for stage in program[:-1] if isinstance(stage, programs.Train)]
    assert bool(before) == chosen.needs_trained == bool(chosen.retraining)
    assert programs.keeps_weights(program) == chosen.retraining.startswith("trained weights")
    assert [s.of_path for s in program if isinstance(s, programs.Prune)][-1] == 1


@pytest.mark.parametrize("frame", ["uniform", "erk", "smart", "global"])
@pytest.mark.parametrize("method", ["magnitude", "random", "snip"])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.73, 0.8])
def test_many_rounds_stay_exact_and_nested(method: str, frame: str, sparsity: float) -> None:
    """Largest remainders may give a layer one weight *more* in a later round: it has none to give back."""
    from ticketlab.pruning import find_mask
    from ticketlab.spec import resolve

    exhibit = ZOO["mlp"]
    options = {"budget": frame, "rounds": 25}
    try:
        mask = prune(exhibit, method, sparsity, **options)
    except InputError as error:
        assert frame == "smart" and "alone keeps" in str(error)
        return
    assert exact(mask, sparsity)
    first = prune(exhibit, method, sparsity / 2)
    chosen, own = ticketlab.methods.configured(resolve(method)[0], {**options, "rounds": 2})
    later = find_mask(exhibit.model(), chosen, own, sparsity, batches=exhibit.data(), start=first)
    assert exact(later, sparsity) and later.overlap(first) == 1.0


@pytest.mark.parametrize("name", ["conv-norm", "depthwise", "residual"])
def test_lottery_with_a_dense_classifier(name: str) -> None:
    mask = prune(ZOO[name], "lottery", 0.4, classifier="dense")
    linear = [n for n, t in mask.items() if t.dim() == 2]
    assert exact(mask, 0.4) and linear and all(bool(mask[n].all()) for n in linear)
    with pytest.raises(InputError, match="dense classifier alone"):
        prune(ZOO["mlp"], "lottery", 0.4, classifier="dense")
    with pytest.raises(InputError, match="its own count"):
        prune(ZOO[name], "lottery", 0.4, classifier="dense", budget="uniform")


def nan_in_last(scoring: ticketlab.Scoring) -> dict[str, Tensor]:
    """One score of the last layer is not a number."""
    scores = {name: weight.detach().abs() for name, weight in scoring.weights.items()}
    list(scores.values())[-1].view(-1)[3] = scoring.options["value"]
    return scores


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("frame", ["global", "uniform"])
@pytest.mark.parametrize("select", ["top-k", "inverted"])
def test_scores_that_are_not_finite_name_the_layer(value: float, frame: str, select: str) -> None:
    def score(scoring: ticketlab.Scoring) -> dict[str, Tensor]:
        scoring.options = {"value": value}
        return nan_in_last(scoring)

    with pytest.raises(InputError, match=r"'4\.weight' hold 1 NaN or infinite"):
        ticketlab.prune(ZOO["mlp"].model(), score, 0.5, budget=frame, select=select)


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].reads_weights])
def test_nan_weights_name_the_layer(method: str) -> None:
    exhibit = ZOO["mlp"]
    model = exhibit.model()
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    options = {"redraw_classifier": False} if method.startswith("grasp") else {}
    # The curvature is computed from the outputs, which come first.
    words = "finite outputs, got NaN" if method.startswith("obd") else r"layer '\d\.weight' hold \d+ NaN"
    with pytest.raises(InputError, match=words):
        prune(exhibit, method, model=model, **options)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("snip", {"accumulate": "typo"}, "accumulate"),
        ("synflow", {"bias": "typo"}, "bias"),
        ("lottery", {"classifier": "typo"}, "classifier"),
        ("lottery", {"rewind": None}, "rewind"),
        ("lr-rewinding", {"rewind": "a quarter"}, "rewind"),
        ("fine-tuning", {"epochs": -1}, "epochs"),
        ("fine-tuning", {"rewind": 1}, "option of fine-tuning"),
        ("hybrid", {"form": "typo"}, "form"),
        ("hybrid", {"budget": "ratios"}, "budget"),
        ("magnitude", {"budget": "ratios:"}, "budget|method"),
        ("smart-ratio", {"form": "typo"}, "form"),
        ("smart-ratio", {"decay": 3}, "decay"),
        ("smart-ratio", {"compat": "typo"}, "compat"),
        ("smart-ratio", {"linear_keep": 1.5}, "linear_keep"),
        ("snip", {"mode": 3}, "mode"),
        ("snip", {"budget": "typo"}, "budget"),
        ("snip", {"select": None}, "select"),
        ("snip", {"rounds": 0}, "rounds"),
        ("snip", {"rounds": 2.5}, "rounds"),
        ("snip", {"temperature": 1}, "option of snip"),
        ("grasp", {"temperature": "hot"}, "temperature"),
        ("grasp", {"redraw_classifier": "maybe"}, "redraw_classifier"),
        ("snip+sampled", {"temperature": -1}, "below 0"),
        ("snip+sampled", {"mix": 1.5}, "0 <= mix <= 1"),
        ("snip+sampled", {"draw": "once"}, "round of snip\\+sampled to draw in"),
        ("snip+sampled", {"replacement": 1}, "replacement"),
        ("random+sampled", {}, "no such method|without a score"),
        ("sketch-ntk", {"columns": "typo"}, "columns"),
        ("sketch-ntk", {"inputs": "typo"}, "inputs"),
        ("sketch-jacobian", {"draws": 0}, "draws"),
        ("sketch-jacobian", {"examples": 2.5}, "examples"),
        ("sinp", {}, "Did you mean 'snip'"),
    ],
)
def test_wrong_options_are_named(method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        prune(ZOO["mlp"], method, **options)


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 90, float("nan"), float("inf"), "0.9", None])
@pytest.mark.parametrize("method", ["random", "magnitude", "synflow"])
def test_sparsity_outside_the_range(method: str, sparsity: Any) -> None:
    with pytest.raises(InputError, match="sparsity"):
        prune(ZOO["mlp"], method, sparsity)


@pytest.mark.parametrize("sparsity", [np.float32(0.5), np.float64(0.5), 0])
def test_sparsity_of_other_number_types(sparsity: Any, tmp_path: Any) -> None:
    mask = prune(ZOO["mlp"], "magnitude", sparsity, seed=np.int64(3))
    assert exact(mask, float(sparsity))
    mask.save(tmp_path / "mask")
    assert Mask.load(tmp_path / "mask").fingerprint["seed"] == 3


def test_data_that_do_not_fit_are_named() -> None:
    model = ZOO["mlp"].model()
    x, y = ZOO["mlp"].batch()
    for batch, words in [((x[:, :5], y), r"\(6, 5\)"), ((x, y[:3]), r"\(3,\)"), ((x.double(), y), "float64")]:
        with pytest.raises(InputError, match=words):
            ticketlab.prune(model, "snip", 0.5, data=[batch])
    with pytest.raises(InputError, match="batch 0"):
        ticketlab.prune(model, "snip", 0.5, data=[x])
    with pytest.raises(InputError, match="more than 1 value"):
        normed = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        ticketlab.prune(normed, "snip", 0.5, data=[(torch.ones(1, 3), torch.tensor([1]))])


def test_only_the_filtered_weights_count() -> None:
    exhibit = ZOO["conv-norm"]
    for method in METHODS:
        options = {"linear_keep": 0.0} if method == "smart-ratio" else {}
        mask = prune(exhibit, method, 0.5, prunable=lambda name, weight: weight.dim() == 4, **options)
        assert list(mask) == ["0.weight", "4.weight"] and exact(mask, 0.5)


class Nested(nn.Module):
    """A user's module with an attribute called ``module``, as wrappers have, and the same names beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.module = nn.ModuleDict({"a": nn.Linear(6, 3)})

    def forward(self, x: Tensor) -> Tensor:
        return self.module["a"](torch.relu(self.a(x)))


@methods
def test_a_user_attribute_named_module(method: str) -> None:
    torch.manual_seed(0)
    model = Nested()
    twin = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    twin.load_state_dict(dict(zip(twin.state_dict(), model.state_dict().values(), strict=True)))
    data = [(torch.randn(8, 4), torch.arange(8) % 3)]
    options = OPTIONS.get(method, {})
    mask, expected = (ticketlab.prune(m, method, 0.5, data=data, **options) for m in (model, twin))
    if METHODS[method].select not in ("random", "sampled"):
        # Every layer draws its positions by its name.
        assert same_positions(mask, expected)
    assert exact(mask, 0.5)
