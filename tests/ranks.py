"""What the ranks of a torchrun do in the tests: `ranks.py FOLDER SCENARIO...`, a JSON file a scenario and rank."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from zoo import ZOO, Exhibit

import ticketlab
from ticketlab import Mask
from ticketlab.contents import tensors_digest
from ticketlab.distributed import gathered, prune, same, same_mask, same_weights
from ticketlab.methods import METHODS

SPARSITY = 0.6
STEPS = 12
# Batch norm in train mode: a batch that is split or put elsewhere changes the scores.
EXHIBIT = ZOO["conv-norm"]


def batches(exhibit: Exhibit = EXHIBIT, count: int = 3) -> list[tuple[Tensor, Tensor]]:
    """The data of one process: batches of different sizes, an odd number of them."""
    return [exhibit.batch(seed, size=9 - 2 * seed) for seed in range(count)]


@contextmanager
def one_rank(folder: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def options_of(method: str) -> dict[str, Any]:
    """Fewer rounds than the default of 100: the same code, sooner."""
    return {"rounds": 3} if method.startswith("synflow") else {}


def in_order(model: nn.Module, data: Any, loss: Any) -> dict[str, Tensor]:
    """A score that depends on the order of the batches."""
    total = 0.0
    for place, (inputs, targets) in enumerate(data):
        total = total + (place + 1) * loss(model(inputs), targets)
    total.backward()
    return {name: p.grad * p.detach() for name, p in model.named_parameters() if p.grad is not None}


class Recorder:
    """A score that remembers what it returned."""

    def __init__(self) -> None:
        self.digests: list[str] = []

    def __call__(self, model: nn.Module, data: Any, loss: Any) -> dict[str, Tensor]:
        found = in_order(model, data, loss)
        self.digests.append(tensors_digest(found))
        return found


def mixed() -> list[Any]:
    """Batches of every kind that can be sent, each different from the others."""
    draw = torch.Generator().manual_seed(3)
    real = torch.randn((4, 3), generator=draw)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.int8, torch.bool]
    found: list[Any] = [(real.to(kind), torch.arange(4)) for kind in kinds]
    found += [
        ((real, [real.t(), None]), {"labels": torch.tensor(7), "name": "é\0", "weights": (0.1, True)}),
        [torch.empty(0, 5), torch.empty(0, dtype=torch.long)],
        (torch.view_as_complex(torch.randn((3, 2), generator=draw)).conj(), real[:, 1:].t()),
    ]
    return found


def share(whole: list[Any]) -> list[Any]:
    """This rank's."""
    return whole[dist.get_rank() :: dist.get_world_size()]


def said(work: Callable[[], Any]) -> str:
    """The type and text of what is raised."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def every_method() -> dict[str, str]:
    return {
        m: prune(EXHIBIT.model(), m, SPARSITY, data=share(batches()), seed=5, **options_of(m)).digest() for m in METHODS
    }


def every_model() -> dict[str, str]:
    """Tokens, tied weights, half precision, dropout, and a wrapped model."""
    found = {}
    for name, exhibit in ZOO.items():
        found[name] = prune(exhibit.model(), "snip", SPARSITY, data=share(batches(exhibit))).digest()
    wrapped = prune(DistributedDataParallel(EXHIBIT.model()), "grasp", SPARSITY, data=share(batches()))
    return {**found, "wrapped": Mask({n.removeprefix("module."): kept for n, kept in wrapped.items()}).digest()}


def scores() -> dict[str, Any]:
    recorder = Recorder()
    mask = prune(EXHIBIT.model(), recorder, SPARSITY, data=share(batches()))
    return {"scores": recorder.digests, "mask": mask.digest(), "fingerprint": mask.fingerprint}


def few_batches() -> dict[str, str]:
    """Fewer batches than ranks, down to none."""
    found = {str(n): prune(EXHIBIT.model(), "snip", SPARSITY, data=share(batches(count=n))).digest() for n in (1, 2)}
    return {**found, "0": said(lambda: prune(EXHIBIT.model(), "snip", SPARSITY, data=share([])))}


def order() -> list[str]:
    """What rank 0 gets, as text that shows every bit."""
    return [spelled(batch) for batch in gathered(share(mixed()))]


def spelled(value: Any) -> str:
    """A batch in words: structure, types, shapes, bits."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)} {tensors_digest({'': value.resolve_conj()})}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {spelled(v)}' for k, v in value.items())}}}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({', '.join(spelled(v) for v in value)})"
    return repr(value)


class Pair(NamedTuple):
    """A batch of a type that the other ranks do not know."""

    inputs: Tensor
    targets: Tensor


def refusals() -> dict[str, str]:
    """What each rank says where one of them is wrong; the last one is right, so that they are still in step."""
    rank, model = dist.get_rank(), EXHIBIT.model()
    data = share(batches())

    def asked(**changed: Any) -> Callable[[], Mask]:
        arguments = {"model": model, "method": "snip", "sparsity": SPARSITY, "data": data, **changed}
        return lambda: prune(**arguments)

    def failing(scoring: ticketlab.Scoring) -> dict[str, Tensor]:
        raise ZeroDivisionError("midway")

    def unreadable() -> Iterator[Any]:
        yield from data
        if rank == 1:
            raise OSError("the disk is gone")

    def mask(seed: int) -> Mask:
        return ticketlab.prune(model, "random", SPARSITY, seed=seed)

    sync = nn.SyncBatchNorm.convert_sync_batchnorm(EXHIBIT.model())
    sparse = [(torch.eye(3).to_sparse(), torch.arange(3))]
    found = {
        "weights": said(asked(model=EXHIBIT.model(rank))),
        "arguments": said(asked(seed=rank)),
        "score": said(asked(method=failing)),
        "reading": said(asked(data=unreadable())),
        "sparse": said(asked(data=sparse if rank == 1 else data)),
        "named": said(asked(data=[Pair(*data[0])] if rank == 1 else data)),
        "shape": said(asked(data=[(torch.ones(2, 5), torch.zeros(2).long())] if rank == 1 else data)),
        "sync": said(asked(model=sync)),
        "sparsity": said(asked(sparsity=1.5)),
        "own mask": said(lambda: same_mask(mask(rank))),
        "no mask": said(lambda: same_mask(None if rank == 0 else mask(0))),
        "no Mask": said(lambda: same_mask(dict(mask(0)) if rank == 1 else mask(0))),
        "other weights": said(lambda: same_weights(EXHIBIT.model(rank))),
        "other calls": said(asked() if rank == 0 else lambda: same_weights(model)),
        "flipped": said(lambda: with_transport(flipped, lambda: same_mask(mask(0)))),
        "cut": said(lambda: with_transport(cut, lambda: same_mask(mask(0)))),
    }
    return {**found, "right": prune(model, "snip", SPARSITY, data=data).digest()}


def with_transport(damage: Callable[[Tensor], Tensor], work: Callable[[], Any]) -> Any:
    """Run where what arrives at rank 1 is damaged."""
    honest = same.broadcast_value

    def damaged(value: Any, source: int) -> Any:
        arrived = honest(value, source)
        return damage(arrived) if dist.get_rank() == 1 else arrived

    same.broadcast_value = damaged
    try:
        return work()
    finally:
        same.broadcast_value = honest


def flipped(content: Tensor) -> Tensor:
    """One position of a layer: a tensor's bits are padded at the other end of its last byte."""
    content[-1] ^= 0b10000000
    return content


def cut(content: Tensor) -> Tensor:
    return content[:-1]


def same_masks() -> dict[str, Any]:
    rank = dist.get_rank()
    mask = ticketlab.prune(EXHIBIT.model(), "random", SPARSITY, seed=2)
    given = same_mask(mask if rank == 0 else None)
    return {"mask": given.digest(), "fingerprint": given.fingerprint, "again": same_mask(given).digest()}


def training(model: nn.Module, mask: Mask, data: list[tuple[Tensor, Tensor]], kind: type, **options: Any) -> int:
    """Train a ticket; how many pruned weights were not zero after any step."""
    optimizer = kind(model.parameters(), **options)
    seen = 0
    with ticketlab.enforce(model, mask, optimizer):
        for inputs, targets in data:
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            seen += sum(int(torch.count_nonzero(p.detach()[~mask[n]])) for n, p in mask.match(model).items())
    return seen


def of_full_batches() -> list[tuple[Tensor, Tensor]]:
    """What one process trains on."""
    return [ZOO["mlp"].batch(seed, size=12) for seed in range(STEPS)]


SGD: dict[str, Any] = {"kind": torch.optim.SGD, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}


def equal_to_one_process() -> dict[str, Any]:
    """In double precision, each rank with its half of every batch."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    model = DistributedDataParallel(ZOO["mlp"].model().double())
    data = [(x[rank::ranks].double(), y[rank::ranks]) for x, y in of_full_batches()]
    mask = prune(model, "snip", SPARSITY, data=share([(x.double(), y) for x, y in of_full_batches()[:3]]))
    nonzero = training(model, mask, data, **SGD)
    return {
        "nonzero": nonzero,
        "names": list(mask),
        "digest": same_weights(model),
        "weights": {n: p.detach().tolist() for n, p in model.module.named_parameters()},
    }


def prune_the_trained() -> dict[str, Any]:
    """Batch norm, Adam, buckets; then a second mask from the trained net, whose statistics differ between ranks."""
    model = DistributedDataParallel(EXHIBIT.model(), gradient_as_bucket_view=True)
    data = share([EXHIBIT.batch(seed) for seed in range(8)])
    first = prune(EXHIBIT.model(), "random", SPARSITY)
    adam: dict[str, Any] = {"kind": torch.optim.AdamW, "lr": 0.01, "weight_decay": 0.1}
    nonzero = training(model, first, data, **adam)
    buffers = tensors_digest(dict(model.module.named_buffers()))
    second = prune(model, "snip", 0.8, data=share(batches()), mode="eval")
    alone = ticketlab.prune(model, "snip", 0.8, data=batches(), mode="eval")
    nonzero += training(model, second, data, **adam)
    return {
        "nonzero": nonzero,
        "buffers": buffers,
        "digest": same_weights(model),
        "second": second.digest(),
        "alone": alone.digest(),
    }


def die() -> None:
    """Rank 1 is gone while rank 0 waits for its data."""
    if dist.get_rank() == 1:
        os._exit(7)
    prune(EXHIBIT.model(), "snip", SPARSITY, data=share(batches()))


def main(folder: str, *scenarios: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=120))
    for name in scenarios:
        found = globals()[name]()
        Path(folder, f"{name}.{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()
    # Gloo's threads may still hold tensors of the last message, and would abort an interpreter that shuts down.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
