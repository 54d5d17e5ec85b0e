"""Models that the kernels do not know as a whole: their pruned layers run sparse, and nothing else changes."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ticketlab.errors import DensePathWarning, InputError
from ticketlab.sparse import faster, library, one_layer
from ticketlab.sparse.compiled import CompiledTicket, compile_ticket
from ticketlab.speed.turns import Times


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and the kernels that are there already."""
    library.library()
    monkeypatch.setenv("TICKETLAB_CACHE", str(tmp_path))
    return tmp_path / "sparse"


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[tuple[str, ...]], Callable[..., None]]]:
    """As if the first of some ways that is there were the fastest; with the ways that were measured, each time."""
    seen: list[tuple[str, ...]] = []
    best = ["sparse"]

    def in_turns(calls: dict[str, Any], *_: object) -> dict[str, Times]:
        for call in calls.values():
            call()
        seen.append(tuple(calls))
        chosen = next((name for name in best if name in calls), "dense")
        return {name: Times((0.5 if name == chosen else 1.0,)) for name in calls}

    monkeypatch.setattr(faster, "in_turns", in_turns)
    monkeypatch.setattr(one_layer, "tune", lambda net: {})

    def choose(*names: str) -> None:
        best[:] = names

    yield seen, choose


class Attention(nn.Module):
    """Self-attention of linear layers."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        found = functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x)), attn_mask=hidden
        )
        # Not contiguous when it comes to the last layer.
        return self.out(found.transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """A small transformer on (N, T, 12), with an input that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 24)
        self.attention = nn.ModuleList(Attention(24, 4) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(24, 50), nn.GELU(), nn.Linear(50, 24)) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(24) for _ in range(4))
        self.head = nn.Linear(24, 5, bias=False)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        x = self.embed(x)
        for i in range(2):
            x = x + self.attention[i](self.norms[2 * i](x), hidden)
            x = x + self.mlp[i](self.norms[2 * i + 1](x))
        return self.head(x.mean(1))


class Branching(nn.Module):
    """Control flow that depends on values, and on sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 20), nn.Linear(20, 20), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.elu(self.first(x))
        for _ in range(int(x.shape[0] > 2) + 1):
            if float(x.abs().max()) > 0:
                x = torch.tanh(self.second(x))
        return self.last(x)


class Images(nn.Module):
    """Convolutions that no list of layers holds: SiLU, groups, dilation, a sigmoid gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=4)
        self.gate = nn.Conv2d(16, 16, 1)
        self.wide = nn.Conv2d(16, 6, (1, 3), padding=(0, 1), stride=(2, 1))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.norm(self.stem(x)))
        x = functional.silu(self.grouped(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.head(functional.hardswish(self.wide(x)).amax((2, 3)))


class Recurrent(nn.Module):
    """An LSTM with a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(12, 10, batch_first=True), nn.Linear(10, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        found, (hidden, _) = self.lstm(x)
        return self.head(found), {"last": self.head(hidden[-1])}


class Twice(nn.Module):
    """A layer that runs twice, under two names, on inputs of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(12, 12)
        self.again = nn.Sequential(nn.Tanh(), self.one)

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.one(x)) + self.one(x[:1])


def torchs_encoder(**more: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 2, 30, batch_first=True, **more)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not more.get("norm_first"))


# The model, the shape of an input, and the layers that are to be sparse.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "encoder": (Encoder, (7, 12), 14),
    "torch's encoder": (torchs_encoder, (7, 12), 4),
    "torch's encoder, GELU": (lambda: torchs_encoder(activation="gelu", norm_first=True), (7, 12), 4),
    "branching": (Branching, (12,), 3),
    "images": (Images, (3, 13, 11), 5),
    "recurrent": (Recurrent, (5, 12), 1),
    "twice": (Twice, (12,), 1),
}


def ticket(name: str, density: float = 0.3) -> tuple[nn.Module, dict[str, Tensor], tuple[int, ...]]:
    torch.manual_seed(0)
    made, shape, _ = MODELS[name]
    model = made().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    layers = {f"{n}.weight" for n, m in model.named_modules() if type(m) in (nn.Linear, nn.Conv2d)}
    return model, {n: torch.rand(p.shape) < density for n, p in model.named_parameters() if n in layers}, shape


def masked(model: nn.Module, mask: dict[str, Tensor]) -> nn.Module:
    """In double precision, so that what is compared is the kernels' rounding and not torch's."""
    exact = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for n, p in exact.named_parameters():
            if n in mask:
                p.mul_(mask[n])
    return exact


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [one for part in (value.values() if isinstance(value, dict) else value) for one in tensors(part)]


def error(found: Any, model: nn.Module, mask: dict[str, Tensor], *inputs: Tensor) -> float:
    """Against the masked model in double precision, as a share of its largest output."""
    with torch.no_grad():
        wanted = tensors(masked(model, mask)(*(x.double() if x.is_floating_point() else x for x in inputs)))
    off = [0.0]
    for ours, theirs in zip(tensors(found), wanted, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == theirs.shape and not ours.requires_grad
        off.append(float((ours.double() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-3)))
    return max(off)


def sparse(fast: nn.Module) -> int:
    """How many layers ran on the kernels."""
    assert isinstance(fast, CompiledTicket)
    return repr(fast).count(" kept, sparse, ")


@pytest.mark.parametrize("density", [0.0, 0.3])
@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_sparse_where_that_is_asked(name: str, density: float) -> None:
    model, mask, shape = ticket(name, density)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DensePathWarning)
        fast = compile_ticket(model, mask, path="sparse")
        for n in (3, 1, 70):
            x = torch.randn(n, *shape)
            # The second time without the comparison that the first one makes.
            for _ in range(2):
                assert error(fast(x), model, mask, x) < 1e-5, n
    count = MODELS[name][2]
    assert sparse(fast) == count and fast.refused is None
    assert fast.path.startswith(f"layer by layer ({library.level()}): {count} of {count} layers sparse; asked for")
    assert not list(fast.parameters()) and not list(fast.buffers())


@pytest.mark.parametrize("level", ["plain", "avx2", "avx512"])
def test_instruction_sets(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if level not in library.library().levels():
        pytest.skip(f"no {level} here")
    monkeypatch.setenv("TICKETLAB_SPARSE_LEVEL", level)
    for name in ("encoder", "images"):
        model, mask, shape = ticket(name)
        fast, x = compile_ticket(model, mask, path="sparse"), torch.randn(19, *shape)
        assert error(fast(x), model, mask, x) < 1e-5 and f"layer by layer ({level})" in fast.path


@pytest.mark.usefixtures("choosing")
@pytest.mark.parametrize("path", ["auto", "sparse"])
def test_threads_and_batch_sizes_and_shapes_in_turn(path: str) -> None:
    before = torch.get_num_threads()
    try:
        for name in ("encoder", "images"):
            model, mask, shape = ticket(name)
            fast = compile_ticket(model, mask, path=path)
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                for n, more in ((1, 0), (3, 4), (70, 1), (2, 9), (33, 6), (1, 30)):
                    x = torch.randn(n, *(shape[0] + more, shape[1]) if len(shape) == 2 else (3, 13 + more, 11))
                    assert error(fast(x), model, mask, x) < 1e-5, (threads, n, more)
                    assert sparse(fast) == MODELS[name][2]
    finally:
        torch.set_num_threads(before)


def test_many_rows_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_layer, "_FLOATS", 64 * 74)
    model, mask, shape = ticket("encoder")
    fast = compile_ticket(model, mask, path="sparse")
    for n in (1, 9, 64, 65, 300):
        x = torch.randn(n, *shape)
        assert error(fast(x), model, mask, x) < 1e-5, n
    assert sparse(fast) == 14


def test_a_choice_for_every_layer(choosing: Any, cache: Path) -> None:
    seen, choose = choosing
    model, mask, shape = ticket("images")
    x = torch.randn(6, *shape)
    fast = compile_ticket(model, mask)
    assert fast.path == "not chosen yet: the first call does"
    assert error(fast(x), model, mask, x) < 1e-5 and sparse(fast) == 5
    assert {"dense", "dense, channels last", "sparse"} in map(set, seen) and len(list(cache.glob("layer-*"))) == 5
    count = len(seen)
    fast(x), fast(torch.randn(8, *shape)), compile_ticket(model, mask)(x)
    assert len(seen) == count
    for ways, some in ((("dense, channels last",), 1), (("dense, as CSR",), 4), (("dense",), 5)):
        for file in cache.glob("layer-*"):
            file.unlink()
        choose(*ways, *(() if len(ways[0]) < 6 or "CSR" not in ways[0] else ("sparse",)))
        other = compile_ticket(model, mask)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DensePathWarning)
            assert error(other(x), model, mask, x) < 1e-5
        assert other.refused is None
        if "CSR" in ways[0]:
            # Of convolutions torch has no such matrices.
            assert sparse(other) >= some and f"{sparse(other)} of 5 layers sparse" in other.path
        else:
            assert sparse(other) == 0 and other.path.startswith("dense: no layer measured faster on the kernels")
            assert repr(other).count("kept, dense") == 5


def test_what_is_measured_is_right_whatever_it_is(cache: Path) -> None:
    model, mask, shape = ticket("branching")
    fast, x = compile_ticket(model, mask), torch.randn(5, *shape)
    assert error(fast(x), model, mask, x) < 1e-5
    # Both calls of the second layer decide alike.
    assert len(list(cache.glob("layer-*"))) == 3


@pytest.mark.parametrize("best", ["fused", "layers"])
def test_torchs_fused_encoder_layers(best: str, choosing: Any) -> None:
    seen, choose = choosing
    choose(best, "sparse")
    model, mask, shape = ticket("torch's encoder")
    fast = compile_ticket(model, mask)
    for n in (1, 3, 70):
        x = torch.randn(n, *shape)
        assert error(fast(x), model, mask, x) < 1e-5
    assert ("fused", "layers") in seen
    assert sparse(fast) == (4 if best == "layers" else 0)
    assert fast.path.startswith("layer by layer" if best == "layers" else "dense: no layer measured faster")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_torchs_encoder_with_padding_and_masks() -> None:
    model, mask, shape = ticket("torch's encoder")
    x = torch.randn(3, *shape)
    padding = torch.arange(7)[None] >= torch.tensor([7, 4, 2])[:, None]
    causal = nn.Transformer.generate_square_subsequent_mask(7)
    dense = compile_ticket(model, mask, path="dense")
    fast = compile_ticket(model, mask, path="sparse")
    assert torch.allclose(fast(x, mask=causal), dense(x, mask=causal), atol=1e-5) and sparse(fast) == 4
    # With padding torch makes a nested tensor of the batch, and zeros of what is padded.
    found = compile_ticket(model, mask, path="sparse")(x, src_key_padding_mask=padding)
    assert torch.allclose(found, dense(x, src_key_padding_mask=padding), atol=1e-5) and (found[1, 4:] == 0).all()
    alone, alone_mask = model.layers[0], {n[9:]: m for n, m in mask.items() if n.startswith("layers.0.")}
    for rows in (padding, torch.ones(3, 7, dtype=torch.bool)):
        ways = [compile_ticket(alone, alone_mask, path=p) for p in ("sparse", "dense")]
        found, wanted = (way(x, src_key_padding_mask=rows) for way in ways)
        assert torch.allclose(found, wanted, atol=1e-5, equal_nan=True)


class Odd(nn.Module):
    """Layers that must stay as they are, beside one that need not."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.free = nn.Embedding(9, 12), nn.Linear(12, 12)
        self.tied, self.hooked, self.weighed = nn.Linear(12, 9, bias=False), nn.Linear(12, 12), nn.Linear(12, 12)
        self.tied.weight = self.words.weight
        self.hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.circular = nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")
        self.same = nn.Conv2d(3, 3, 3, padding="same")
        nn.utils.parametrizations.weight_norm(self.weighed)

    def forward(self, tokens: Tensor) -> Tensor:
        x = functional.gelu(self.free(self.words(tokens)))
        x = self.weighed(functional.gelu(self.hooked(x)))
        x = x + self.attention(x, x, x)[0] + functional.linear(x, self.free.weight)
        maps = self.same(self.circular(x[:, None].expand(-1, 3, -1, -1)))
        return self.tied(maps.sum(1))


def test_layers_that_stay_as_they_are() -> None:
    torch.manual_seed(0)
    model, tokens = Odd().eval(), torch.randint(9, (4, 6))
    mask = {n: torch.rand(p.shape) < 0.5 for n, p in model.named_parameters() if p.dim() > 1 and "weighed" not in n}
    fast = compile_ticket(model, mask, path="sparse")
    assert error(fast(tokens), model, mask, tokens) < 1e-5
    assert sparse(fast) == 1 and f"1 of {len(mask)} layers sparse" in fast.path and "free: " in repr(fast)
    # Of a layer that is not pruned, nothing is to be had.
    with pytest.raises(InputError, match=r"asked for the sparse path of Odd.*nor can a layer of it run alone"):
        compile_ticket(model, {n: m for n, m in mask.items() if "free" not in n}, path="sparse")
    with pytest.warns(DensePathWarning, match="Odd runs on torch's dense path"):
        other = compile_ticket(model, {n: torch.ones_like(m) for n, m in mask.items()})
    assert "nor can a layer" in (other.refused or "") and torch.allclose(other(tokens), model(tokens), atol=1e-6)


def test_inputs_of_any_form() -> None:
    model, mask, x = (
        nn.Sequential(nn.Linear(6, 4), nn.Tanh()),
        {"0.weight": torch.rand(4, 6) < 0.5},
        torch.randn(5, 4, 6),
    )
    fast = compile_ticket(model, mask, path="sparse")
    for some in (x, x[:, ::2], x.transpose(0, 1), x[0], x[0, 0], x[None, :, None], x[:, :, :1].expand(5, 4, 6)):
        assert error(fast(some), model, mask, some) < 1e-5
    assert sparse(fast) == 1
    assert fast(x[:0]).shape == (0, 4, 4)
    conv = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh())
    mask, images = {"0.weight": torch.rand(4, 3, 3, 3) < 0.5}, torch.randn(4, 3, 8, 9)
    fast = compile_ticket(conv, mask, path="sparse")
    turned = images.contiguous(memory_format=torch.channels_last)
    for some in (images, images[0], turned, images.transpose(2, 3), images[:, :, ::2]):
        assert error(fast(some), conv, mask, some) < 1e-5
    assert sparse(fast) == 1 and fast(images[:0]).shape == (0, 4, 8, 9)
    with pytest.raises(RuntimeError, match="channels"):
        fast(images[:, :2])


def test_a_network_that_can_run_whole_runs_other_inputs_layer_by_layer() -> None:
    torch.manual_seed(0)
    model, mask = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), {"0.weight": torch.rand(8, 6) < 0.5}
    fast, x = compile_ticket(model, mask, path="sparse"), torch.randn(5, 4, 6)
    assert error(fast(x), model, mask, x) < 1e-5 and "1 of 1 layers sparse; asked for a batch" in fast.path
    assert error(fast(x[0]), model, mask, x[0]) < 1e-5 and fast.path == f"sparse ({library.level()})"


class Careful(nn.Module):
    """What a forward pass may do around a layer that kernels without derivatives must leave alone."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.layer = way, nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "gradient":
            with torch.enable_grad():
                held = x.detach().requires_grad_()
                return torch.autograd.grad(torch.tanh(self.layer(held)).sum(), held)[0]
        if self.way == "vmap":
            return torch.vmap(lambda row: torch.tanh(self.layer(row)))(x)
        if self.way == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.layer(x).float()
        if self.way == "random":
            return functional.dropout(self.layer(x), 0.5, training=True)
        self.layer.weight.mul_(2)
        return torch.tanh(self.layer(x))


@pytest.mark.parametrize("way", ["gradient", "vmap", "autocast", "random", "written"])
def test_what_a_forward_pass_may_do(way: str) -> None:
    torch.manual_seed(0)
    model, mask, x = Careful(way).eval(), {"layer.weight": torch.rand(4, 6) < 0.5}, torch.randn(5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = compile_ticket(model, mask, path="sparse")
        plain = compile_ticket(model, mask, path="dense")
        for turn in range(3):
            if way == "written" and turn == 0:
                # Both answers of the comparison write the weights that they share.
                fast._layers._compared = True
            torch.manual_seed(turn)
            found = fast(x)
            torch.manual_seed(turn)
            assert torch.allclose(found, plain(x), atol=1e-5)
    assert sparse(fast) == (way == "random")


def test_inputs_are_used_once_where_they_cannot_be_copied() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x: Tensor, cache: Any) -> Tensor:
            cache.held.append(self.layer(x))
            return torch.cat(cache.held)

    class Keys:
        def __init__(self) -> None:
            self.held: list[Tensor] = []

    torch.manual_seed(0)
    model, mask, x = Cached().eval(), {"layer.weight": torch.rand(4, 6) < 0.5}, torch.randn(5, 6)
    fast, keys = compile_ticket(model, mask, path="sparse"), Keys()
    assert fast(x, keys).shape == (5, 4) and fast(x, cache=keys).shape == (10, 4) and sparse(fast) == 1


def test_inputs_that_may_be_left_out() -> None:
    model, mask, shape = ticket("encoder")
    x, hidden = torch.randn(3, *shape), torch.ones(7, 7, dtype=torch.bool).tril()
    for path in ("sparse", "dense"):
        fast = compile_ticket(model, mask, path=path)
        assert error(fast(x), model, mask, x) < 1e-5 and error(fast(x, hidden), model, mask, x, hidden) < 1e-5


def test_copies_and_what_happens_to_the_model_later() -> None:
    model, mask, shape = ticket("encoder")
    fast, x = compile_ticket(model, mask, path="sparse"), torch.randn(3, *shape)
    other = copy.deepcopy(fast)
    wanted = copy.deepcopy(model), copy.deepcopy(mask)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    for m in mask.values():
        m.logical_not_()
    for some in (fast, other, copy.deepcopy(fast)):
        assert error(some(x), *wanted, x) < 1e-5 and sparse(some) == 14
    with torch.inference_mode():
        inside = compile_ticket(*wanted, path="sparse")
        assert error(inside(x), *wanted, x) < 1e-5 and sparse(inside) == 14
    assert torch.equal(inside(x), fast(x))


def test_threads_at_once() -> None:
    model, mask, shape = ticket("encoder")
    fast = compile_ticket(model, mask, path="sparse")
    batches = [torch.randn(1 + 5 * i, *shape) for i in range(4)]
    wanted = [copy.deepcopy(fast)(x) for x in batches]
    wrong: list[int] = []

    def ask(i: int) -> None:
        for _ in range(20):
            if not torch.equal(fast(batches[i]), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_kernels_that_compute_something_else_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mask, shape = ticket("encoder")
    monkeypatch.setattr(one_layer.LayerNet, "write", lambda *_: None)
    fast, x = compile_ticket(model, mask), torch.randn(3, *shape)
    with pytest.warns(DensePathWarning, match="of the largest from torch's"):
        assert error(fast(x), model, mask, x) < 1e-5
    assert "from torch's" in (fast.refused or "") and fast.path == f"dense: {fast.refused}"
    with pytest.raises(InputError, match="asked for embed on the kernels, got outputs that differ"):
        compile_ticket(model, mask, path="sparse")(x)


def test_other_answers_of_the_whole_are_not_given() -> None:
    class Particular(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.layer(x)) * (1.0 if type(self.layer) is nn.Linear and len(x.shape) == 2 else 2.0)

    torch.manual_seed(0)
    model, mask, x = Particular().eval(), {"layer.weight": torch.rand(4, 6) < 0.5}, torch.randn(5, 6)
    fast = compile_ticket(model, mask)
    with pytest.warns(DensePathWarning, match="those of the dense path"):
        assert error(fast(x), model, mask, x) < 1e-5
    with pytest.raises(InputError, match="those of the dense path"):
        compile_ticket(model, mask, path="sparse")(x)


class Rounding(nn.Module):
    """Answers in another precision than it computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).bfloat16()


def test_outputs_that_are_rounded_may_differ_by_that() -> None:
    torch.manual_seed(0)
    model = Rounding()
    mask = {"layer.weight": torch.rand(256, 64) < 0.5}
    with torch.no_grad():
        # Halfway between two outputs, as far as they are known: ours and torch's go either way.
        x = torch.randn(1, 64)
        model.layer.bias.copy_(257 / 256 - (model.layer.weight * mask["layer.weight"]).double() @ x[0].double())
    fast = compile_ticket(model, mask, path="sparse")
    assert fast(x).dtype == torch.bfloat16
    assert sparse(fast) == 1


def test_many_image_sizes_hold_few_nets_and_all_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch runs faster is not planned anew whenever other sizes came in between."""
    torch.manual_seed(0)
    made: list[tuple[int, ...]] = []

    def fastest(ways: object, inputs: Tensor, *_: object) -> str:
        made.append(tuple(inputs.shape[2:]))
        return "sparse" if inputs.shape[2] % 2 else "dense"

    monkeypatch.setattr(one_layer, "fastest", fastest)
    monkeypatch.setattr(one_layer, "tune", lambda net: {})
    layer = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    mask = torch.rand(layer.weight.shape) < 0.5
    layer.weight.mul_(mask)
    sparse = one_layer.SparseLayer(layer, mask, "layer", False)
    sizes = range(6, 20)
    for turn in range(2):
        for size in sizes:
            x = torch.randn(2, 3, size, size)
            found = sparse(layer, x)
            assert (found is not None) is bool(size % 2)
            if found is not None:
                torch.testing.assert_close(found, layer(x))
        assert sum(shape.has_nets for shape in sparse._shapes.values()) == 4
        # The second time only what had to give its net back.
        assert made == [(n, n) for n in sizes] + [(n, n) for n in sizes if n % 2] * turn
