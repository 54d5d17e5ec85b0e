"""One ticket on several ranks: the single process's mask on each, pruned weights at zero, and no rank left waiting."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
from ranks import EXHIBIT, SPARSITY, batches
from zoo import ZOO

import ticketlab
from ticketlab import InputError, Mask
from ticketlab.contents import tensors_digest
from ticketlab.distributed import gathered, prune, same_mask, same_weights
from ticketlab.methods import METHODS

pytestmark = pytest.mark.filterwarnings("ignore::ticketlab.errors.EmptyLayerWarning")

TESTS = Path(ranks.__file__).parent
PAGE = TESTS.parent / "docs" / "ddp.md"
SCENARIOS = [
    "every_method",
    "every_model",
    "scores",
    "few_batches",
    "order",
    "refusals",
    "same_masks",
    "equal_to_one_process",
    "prune_the_trained",
]


def torchrun(processes: int, script: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A script under torchrun, on a free port of this machine, without any other network.

    Every rank prints into a file of its own (`printed`): on one pipe their words would mix.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--log-dir", str(folder / "logs"), "--redirects", "1"]
    command += [f"--nproc-per-node={processes}", str(script), *arguments]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)


def printed(folder: Path) -> list[str]:
    """What each rank printed under `torchrun` in this folder, in the order of the ranks."""
    return [log.read_text() for log in sorted((folder / "logs").rglob("stdout.log"))]


def run(processes: int, folder: Path, *scenarios: str) -> dict[str, list[Any]]:
    """What every rank found, by scenario."""
    done = torchrun(processes, TESTS / "ranks.py", str(folder), *scenarios, folder=folder)
    assert done.returncode == 0, done.stderr[-5000:]
    return {
        name: [json.loads((folder / f"{name}.{rank}.json").read_text()) for rank in range(processes)]
        for name in scenarios
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """All scenarios on two ranks, in one launch: most of its time goes into starting."""
    return run(2, tmp_path_factory.mktemp("two"), *SCENARIOS)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    return run(3, tmp_path_factory.mktemp("three"), "few_batches", "order")


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_finds_the_mask_of_one_process(two: dict[str, list[Any]], method: str) -> None:
    alone = ticketlab.prune(
        EXHIBIT.model(), method, SPARSITY, data=batches(), seed=5, **ranks.options_of(method)
    ).digest()
    assert [found[method] for found in two["every_method"]] == [alone, alone]


@pytest.mark.parametrize("name", list(ZOO))
def test_every_model(two: dict[str, list[Any]], name: str) -> None:
    exhibit = ZOO[name]
    alone = ticketlab.prune(exhibit.model(), "snip", SPARSITY, data=batches(exhibit)).digest()
    assert [found[name] for found in two["every_model"]] == [alone, alone]


def test_a_wrapped_model(two: dict[str, list[Any]]) -> None:
    alone = ticketlab.prune(EXHIBIT.model(), "grasp", SPARSITY, data=batches()).digest()
    assert [found["wrapped"] for found in two["every_model"]] == [alone, alone]


def test_scores_are_bit_equal_and_computed_once(two: dict[str, list[Any]]) -> None:
    recorder = ranks.Recorder()
    mask = ticketlab.prune(EXHIBIT.model(), recorder, SPARSITY, data=batches())
    first, second = two["scores"]
    assert first["scores"] == recorder.digests and second["scores"] == []
    assert first["mask"] == second["mask"] == mask.digest()
    assert first["fingerprint"] == second["fingerprint"] == mask.fingerprint
    # In the order of one shard after the other, the scores are others.
    shards = batches()[::2] + batches()[1::2]
    ticketlab.prune(EXHIBIT.model(), recorder, SPARSITY, data=shards)
    assert recorder.digests[0] != recorder.digests[1]


def test_batches_of_any_kind_in_the_order_of_one_process(two: Any, three: Any) -> None:
    expected = [ranks.spelled(batch) for batch in ranks.mixed()]
    assert len(set(expected)) == len(expected)
    assert two["order"] == [expected, []]
    assert three["order"] == [expected, [], []]


@pytest.mark.parametrize("count", [1, 2])
def test_shards_that_are_empty(two: Any, three: Any, count: int) -> None:
    alone = ticketlab.prune(EXHIBIT.model(), "snip", SPARSITY, data=batches(count=count)).digest()
    assert [found[str(count)] for found in two["few_batches"] + three["few_batches"]] == [alone] * 5


def test_no_data_at_all(two: Any) -> None:
    assert all("this method reads data, got none" in found["0"] for found in two["few_batches"])


# What is wrong -> which rank met it (None: all see it), and what all of them say.
REFUSED = {
    "weights": (None, "same weights on all 2 ranks, got others on rank 1 than on rank 0"),
    "arguments": (None, "same arguments of prune on all 2 ranks, got others on rank 1 .*seed=1 against .*seed=0"),
    "score": (0, "asked failing for scores, got ZeroDivisionError in .*: midway"),
    "reading": (1, "the disk is gone"),
    "sparse": (1, "batch 0 of rank 1 between ranks, got a tensor that is not dense"),
    "named": (1, "batch 0 of rank 1 between ranks, got Pair in it"),
    "shape": (0, r"was given|fails on them|asked snip for scores"),
    "sync": (None, "SyncBatchNorm .'1'., which waits for the other ranks. Prune first"),
    "sparsity": (0, "sparsity"),
    "own mask": (None, "same mask on all 2 ranks, got others on rank 1 than on rank 0"),
    "no mask": (0, "asked for a Mask on rank 0, got none"),
    "no Mask": (1, "asked for a Mask on rank 1, got dict"),
    "other weights": (None, "same weights on all 2 ranks, got others on rank 1"),
    "other calls": (None, "same calls in the same order, got 'arguments of prune' on rank 0 and 'weights' on rank 1"),
    "flipped": (None, "same received mask on all 2 ranks, got others on rank 1 than on rank 0"),
    "cut": (1, "asked for a mask in what rank 1 received, got a file that cannot be read"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_is_wrong_on_one_rank_is_raised_on_all(two: Any, what: str) -> None:
    where, words = REFUSED[what]
    texts = [found[what] for found in two["refusals"]]
    for rank, text in enumerate(texts):
        assert text.startswith("OSError: " if (what, rank) == ("reading", 1) else "InputError: "), text
        assert re.search(words, text), text
        if where is not None:
            assert (f"got an error on rank {where}: " in text) == (rank != where), text


def test_every_refusal_is_tested_and_leaves_the_ranks_in_step(two: Any) -> None:
    alone = ticketlab.prune(EXHIBIT.model(), "snip", SPARSITY, data=batches()).digest()
    assert all(found["right"] == alone and set(found) == {*REFUSED, "right"} for found in two["refusals"])


def test_a_rank_that_dies_ends_the_others(tmp_path: Path) -> None:
    done = torchrun(2, TESTS / "ranks.py", str(tmp_path), "die", folder=tmp_path)
    assert done.returncode != 0 and "exitcode  : 7" in done.stderr
    assert not list(tmp_path.glob("die.*"))


def test_rank_0_gives_its_mask(two: Any) -> None:
    mask = ticketlab.prune(EXHIBIT.model(), "random", SPARSITY, seed=2)
    for found in two["same_masks"]:
        assert found == {"mask": mask.digest(), "fingerprint": mask.fingerprint, "again": mask.digest()}


def test_training_on_two_ranks_is_training_on_full_batches(two: Any) -> None:
    """Not bit-equal: the gradient is the mean of two halves' means."""
    data = [(x.double(), y) for x, y in ranks.of_full_batches()]
    model = ZOO["mlp"].model().double()
    mask = ticketlab.prune(model, "snip", SPARSITY, data=data[:3])
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    assert ranks.training(model, mask, data, **ranks.SGD) == 0
    first, second = two["equal_to_one_process"]
    assert first["nonzero"] == second["nonzero"] == 0
    assert first["weights"] == second["weights"] and first["digest"] == second["digest"]
    assert first["names"] == second["names"] == [f"module.{n}" for n in mask]
    for name, expected in model.named_parameters():
        found = torch.tensor(first["weights"][name], dtype=torch.float64)
        torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-12)
        kept = mask.get(name, torch.ones_like(found, dtype=torch.bool))
        assert not found[~kept].any() and (found - start[name])[kept].abs().max() > 1e-2


def test_a_trained_net_with_batch_norm_is_pruned_again(two: Any) -> None:
    first, second = two["prune_the_trained"]
    assert first["nonzero"] == second["nonzero"] == 0 and first["digest"] == second["digest"]
    assert first["buffers"] != second["buffers"], "the statistics of the ranks' own halves"
    assert first["second"] == second["second"] == first["alone"] != second["alone"]


def test_the_script_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process and on two ranks: the same mask, weights that are close."""
    script = tmp_path / "train_ticket.py"
    script.write_text(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0])
    saved = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        monkeypatch.chdir(folder)
        if processes == 1:
            with torch.random.fork_rng():
                exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__"})
        else:
            done = torchrun(processes, script, folder=folder)
            assert done.returncode == 0, done.stderr[-3000:]
            lines = [text.split() for text in printed(folder)]
            assert [line[0] for line in lines] == ["0", "1"] and lines[0][1:] == lines[1][1:]
        saved.append((Mask.load("mask.safetensors"), torch.load("weights.pt", weights_only=True)))
    (mask, weights), (mask_of_two, weights_of_two) = saved
    assert mask == mask_of_two and mask.sparsity == pytest.approx(0.9, abs=1e-3)
    torch.testing.assert_close(weights_of_two, weights, rtol=1e-3, atol=1e-4)
    for name, kept in mask.items():
        assert not weights_of_two[name][~kept].any() and weights_of_two[name][kept].any()


@pytest.fixture(params=["no group", "one rank"])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    if request.param == "no group":
        yield
        return
    with ranks.one_rank(tmp_path):
        yield


# torch says that this initialisation is for tests.
@pytest.mark.filterwarnings("default")
def test_alone_everything_is_as_it_was_given(alone: None) -> None:
    model, data = EXHIBIT.model(), batches()
    mask = ticketlab.prune(model, "snip", SPARSITY, data=data)
    assert prune(model, "snip", SPARSITY, data=iter(data)) == mask
    assert same_mask(mask) is mask
    found = gathered(iter(data))
    assert all(one is other for one, other in zip(found, data, strict=True)) and gathered(None) == []
    named = [ranks.Pair(*data[0])]
    assert gathered(named)[0] is named[0]
    assert same_weights(model) == tensors_digest(dict(model.named_parameters()))
    with pytest.raises(InputError, match="asked for a Mask on rank 0, got none"):
        same_mask()
    with pytest.raises(InputError, match="reads data, got none"):
        prune(model, "snip", SPARSITY)
