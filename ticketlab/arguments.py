"""The arguments of the commands that train: every group is defined once, whoever has it."""

from __future__ import annotations

import argparse
import textwrap

Group = argparse._ArgumentGroup
Container = argparse._ActionsContainer

_METHOD = "a registered name, NAME,option=value, or module:function for a score of your own"


def check(p: argparse.ArgumentParser) -> None:
    """``ticketlab check``."""
    p.usage = "ticketlab check METHOD [METHOD ...] [options]"
    p.description = _wrapped(
        "Trains the tickets that the methods find, and their twins found on tampered data or with tampered masks, "
        "over several seeds, and says of every difference whether it is real, with an interval. A method is "
        f"{_METHOD}. Stopped or finished, the same command goes on where it was."
    )
    p.add_argument("methods", nargs="+", metavar="METHOD", help='"snip", "grasp,temperature=1", "scores:my_score"')
    what = p.add_argument_group("what is studied")
    _data_and_model(what)
    what.add_argument(
        "--sparsity", type=float, nargs="+", default=[0.9], metavar="S", help="fractions removed (default: 0.9)"
    )
    what.add_argument(
        "--checks", nargs="+", metavar="CHECK", help="names, versus:METHOD, or all; see `ticketlab list checks`"
    )
    what.add_argument("--seeds", type=int, metavar="N", help="seeds per ticket, at least 3 (default: 5)")
    what.add_argument(
        "--until-decided",
        action="store_true",
        help="add seeds to the undecided comparisons only: looks at 3, 5, 8, 12 and 20 seeds",
    )
    _recipe(p)

    judge = p.add_argument_group("how verdicts are reached")
    judge.add_argument("--margin", help='the drop that matters: points ("0.5") or a share of dense - chance ("2%%")')
    judge.add_argument("--alpha", type=float, default=0.05, help="chance of a false claim of each kind (default: 0.05)")
    judge.add_argument("--final", action="store_true", help="no seeds will be added later: spend all of alpha now")
    judge.add_argument("--multiplicity", choices=["holm", "bh", "none"], default="holm")
    judge.add_argument("--family", choices=["report", "method"], default="report")
    judge.add_argument("--test", choices=["paired", "welch"], default="paired")

    run = _running(p, "default: the fastest here, measured when a study begins")
    run.add_argument("--out", metavar="DIR", help="the study's folder (default: runs/ and a name made from the study)")
    _store(run)
    _loggers(run)
    _workers(run, "one per core")
    run.add_argument("--dry-run", action="store_true", help="print steps and estimated time and disk, run nothing")
    run.add_argument("--html", metavar="FILE", help="where the report goes (default: report.html in the folder)")
    run.add_argument("--json", action="store_true", help="stdout holds only the results as JSON")
    run.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="R",
        help='exit 1 unless met: "snip:rearrange=uses" (or does-not-use, better, decided; CHECK@0.9)',
    )


def train(p: argparse.ArgumentParser) -> None:
    """``ticketlab train``."""
    p.usage = "ticketlab train --method METHOD --sparsity S --out FILE [options]"
    p.description = _wrapped(
        "Makes one ticket: finds the mask as the method does, trains what is left to the end of the recipe, and writes "
        f"weights, buffers, mask and facts to a safetensors file. A method is {_METHOD}; dense prunes nothing. "
        "Stopped, the same command goes on where it was. In Python, ticketlab.load_ticket(FILE) reads the file."
    )
    _ticket(p, "the finished ticket")
    _recipe(p)
    _single(p)


def prune(p: argparse.ArgumentParser) -> None:
    """``ticketlab prune``."""
    p.usage = "ticketlab prune --method METHOD --sparsity S --out FILE [options]"
    p.description = _wrapped(
        "Finds the mask of one ticket, with the training that the method needs for that (lottery, imp) but without the "
        f"last one, writes it to a safetensors file and says what every layer keeps. A method is {_METHOD}. "
        "In Python, ticketlab.Mask.load(FILE) reads the file."
    )
    what = _ticket(p, "the mask")
    what.add_argument("--weights", metavar="FILE", help="start from these (a safetensors state dict, or a ticket)")
    _recipe(p)
    _single(p)


def export(p: argparse.ArgumentParser) -> None:
    """``ticketlab export``."""
    p.usage = "ticketlab export TICKET --to FILE [--format compact|onnx|dense] [options]"
    p.description = _wrapped(
        "Writes a ticket that `ticketlab train` wrote in another form. compact: the mask and the kept values, "
        "compressed; ticketlab.load_ticket(FILE) reads it back bit-equal. onnx: the network for ONNX Runtime, OpenVINO "
        "and others. dense: a plain safetensors state dict for model.load_state_dict. In ONNX and dense files pruned "
        "weights are zeros, so that they are as large, and mostly as slow, as before."
    )
    p.add_argument("ticket", metavar="TICKET", help="a file that `ticketlab train --out` wrote, or a compact one")
    p.add_argument("--to", required=True, metavar="FILE", help="where it goes")
    p.add_argument("--format", choices=["compact", "onnx", "dense"], default="compact", help="(default: compact)")
    p.add_argument("--model", metavar="M", help="the ticket's model if it is package:factory; its code is run (onnx)")
    p.add_argument("--json", action="store_true", help="stdout holds only the sizes as JSON")


def speed(p: argparse.ArgumentParser) -> None:
    """``ticketlab speed``."""
    p.usage = "ticketlab speed [TICKET] [--model M --data D --sparsity S] [options]"
    p.description = _wrapped(
        "Measures how fast a ticket answers, one image at a time and in batches, in torch, torch.compile, ONNX "
        "Runtime, OpenVINO and ticketlab's own sparse path, in turns in one run, each after its outputs were checked; "
        "beside the limit that the density sets and the sizes of the files. It says so where no speed-up is to be "
        "expected. Without a ticket, a random mask is measured."
    )
    what = p.add_argument_group("what is measured")
    what.add_argument("ticket", nargs="?", metavar="TICKET", help="a file that `ticketlab train` or export wrote")
    what.add_argument("--model", metavar="M", help="a model, or package:factory of your own (default: the ticket's)")
    what.add_argument("--data", metavar="D", help="whose images: see `ticketlab list data` (default: the ticket's)")
    what.add_argument("--data-dir", metavar="DIR", help="the folder with the data; without it, noise of its shape")
    share = what.add_mutually_exclusive_group()
    share.add_argument("--sparsity", type=float, metavar="S", help="of the random mask: the fraction removed")
    share.add_argument("--density", type=float, metavar="D", help="of the random mask: the fraction kept")
    what.add_argument("--ratios", choices=["uniform", "smart", "erk"], help="of its layers (default: uniform)")
    what.add_argument("--seed", type=int, metavar="N", help="draws weights and mask (default: 0)")
    run = p.add_argument_group("how")
    run.add_argument("--runners", nargs="+", metavar="R", help="only these (default: all that are installed)")
    run.add_argument("--batch-size", type=int, default=64, metavar="N", help="of the throughput (default: 64)")
    run.add_argument(
        "--rounds", type=int, default=7, metavar="N", help="turns of every runner, 3 at least (default: 7)"
    )
    run.add_argument("--seconds", type=float, default=0.3, metavar="S", help="of one turn (default: 0.3)")
    run.add_argument("--threads", type=int, metavar="N", help="(default: torch's, one per core)")
    _device(run)
    run.add_argument("--markdown", metavar="FILE", help="write the report as Markdown")
    run.add_argument("--json", action="store_true", help="stdout holds only the measurements as JSON")


def bench(p: argparse.ArgumentParser) -> None:
    """``ticketlab bench``."""
    p.description = _wrapped(
        "Measures what this machine can do at best, how fast each engine trains a model on it, and from that how long "
        "a number of trainings would take."
    )
    _data(p)
    p.add_argument("--model", default="conv", help="a model, or package:factory of your own (default: conv)")
    p.add_argument("--precision", metavar="P", default="fp32", help="fp32, bf16, or tf32 on GPUs (default: fp32)")
    _device(p)
    p.add_argument(
        "--sparsity", type=float, default=0.9, metavar="S", help="of the tickets; counts for sparse (default: 0.9)"
    )
    p.add_argument("--tickets", type=int, default=60, metavar="N", help="trainings to estimate for (default: 60)")
    p.add_argument("--epochs", type=float, metavar="N", help="of each training (default: the data's recipe)")
    p.add_argument("--batch-size", type=int, metavar="N")
    p.add_argument("--jobs", type=int, metavar="N", help="worker processes (default: one per core; 1 on a GPU)")
    p.add_argument("--json", action="store_true", help="stdout holds only the measurements as JSON")


def reproduce(p: argparse.ArgumentParser) -> None:
    """``ticketlab reproduce``."""
    p.usage = "ticketlab reproduce TABLE [--quick] [options]"
    p.description = _wrapped(
        "Runs a published table, or single cells of it, and prints what was published beside what was measured here, "
        "with what that says about the paper's claims. A full table takes days: stopped at any moment, the same "
        "command goes on where it was. --quick is a small stand-in of minutes, which is not the paper's protocol."
    )
    p.add_argument("table", metavar="TABLE", help='"su2020/random-tickets" (`ticketlab list recipes`), or a .toml file')
    what = p.add_argument_group("what is run")
    what.add_argument("--quick", action="store_true", help="few images, few epochs, small nets")
    what.add_argument(
        "--cell",
        nargs="+",
        action="extend",
        default=[],
        metavar="CELL",
        help='only these: "cifar10/resnet32/0.98/random-ticket", "cifar10/resnet32", "*/0.9"',
    )
    what.add_argument("--seeds", type=int, metavar="N", help="runs a cell (default: as the table says)")
    _data_dir(what)
    what.add_argument("--show", action="store_true", help="run nothing: print what the folder's records say")
    what.add_argument("--dry-run", action="store_true", help="print the steps and the estimated time, run nothing")
    run = _running(p, "default: tuned")
    run.add_argument("--out", metavar="DIR", help="where steps and records are kept (default: runs/ and the paper)")
    _store(run)
    _loggers(run)
    _workers(run, "one per core; 1 on a GPU")
    said = p.add_argument_group("what is said")
    said.add_argument(
        "--with",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        dest="more",
        help="records to count in (.jsonl)",
    )
    said.add_argument("--save", metavar="FILE", help="write all records counted in, one a line (.jsonl)")
    said.add_argument("--markdown", metavar="FILE", help="write the comparison as Markdown")
    said.add_argument("--json", action="store_true", help="stdout holds only the comparison as JSON")


def sketch(p: argparse.ArgumentParser) -> None:
    """``ticketlab sketch``."""
    p.description = _wrapped(
        "Tries the theory of pruning as sketching on linear models of a data set: draws masks where they start, "
        "measures the error where their training ends, and shows it beside the exact formulas and the bounds, with "
        "data and without. Takes under a minute on digits; for larger inputs use fewer --classes, --masks and "
        "--limit-train."
    )
    what = p.add_argument_group("what is studied")
    _data(what)
    what.add_argument("--limit-train", type=int, metavar="N", help="use N training examples, class-balanced")
    what.add_argument("--standardise", action="store_true", help="every input centred and scaled to variance 1")
    what.add_argument(
        "--classes",
        type=int,
        nargs="+",
        metavar="C",
        help="one model each: this class against all others (default: every class)",
    )
    what.add_argument("--init-std", type=float, metavar="S", help="of the initial weights (default: 1 / sqrt(inputs))")
    what.add_argument(
        "--distances",
        type=float,
        nargs="+",
        default=[0.0, 0.1, 0.3, 1.0],
        metavar="T",
        help="end points: shares of the way from the start to the least-squares solution (default: 0 0.1 0.3 1)",
    )
    what.add_argument(
        "--steps",
        type=int,
        default=1000,
        metavar="N",
        help="of gradient descent, whose end is one more end point; 0: none (default: 1000)",
    )
    masks = p.add_argument_group("masks")
    masks.add_argument(
        "--kinds",
        nargs="+",
        metavar="KIND",
        help="optimal, magnitude, synflow, uniform, column-norm, snip, or a mixture such as optimal:0.9+uniform:0.1 "
        "(default: all, and two mixtures)",
    )
    masks.add_argument(
        "--draws",
        nargs="+",
        default=["1%", "5%", "10%", "20%", "50%", "100%"],
        metavar="S",
        help="numbers of draws (32) or shares of the weights (10%% or 0.1) (default: 1%% 5%% 10%% 20%% 50%% 100%%)",
    )
    masks.add_argument(
        "--masks",
        type=int,
        default=1000,
        metavar="N",
        help="random masks to each model and cell (default: 1000)",
    )
    masks.add_argument("--seed", type=int, default=0, metavar="N", help="draws weights and masks (default: 0)")
    run = p.add_argument_group("output")
    run.add_argument(
        "--out", metavar="DIR", help="where results.json goes (default: runs/ and a name made from the options)"
    )
    run.add_argument("--html", metavar="FILE", help="where the report goes (default: report.html in the folder)")
    run.add_argument("--json", action="store_true", help="stdout holds only the results as JSON")


def _workers(group: Group, default: str) -> None:
    group.add_argument("--jobs", type=int, metavar="N", help=f"worker processes (default: {default})")
    group.add_argument("--scheduler", metavar="ADDRESS", help="use the workers of this Dask cluster: tcp://HOST:8786")
    group.add_argument("--slurm", action="store_true", help="start --jobs workers as Slurm jobs, as dask-jobqueue does")
    group.add_argument("--dashboard", action="store_true", help="show Dask's dashboard of the worker processes")


def _loggers(group: Group) -> None:
    group.add_argument(
        "--tensorboard",
        metavar="DIR",
        help="write every training's curves there, for `tensorboard --logdir DIR`",
    )


def _store(group: Group) -> None:
    group.add_argument(
        "--store",
        metavar="DIR",
        help="keep finished steps here: a folder or URL that studies may share (default: in their own)",
    )


def store(p: argparse.ArgumentParser) -> None:
    """``ticketlab store``."""
    actions = p.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=text, formatter_class=p.formatter_class)
        parser.add_argument("place", metavar="STORE", help="a study's or a table's folder, or a store (folder or URL)")
        return parser

    listed = action("ls", "what is in a store")
    listed.add_argument("--kind", metavar="KIND", help="only steps of this kind: train, prune, ...")
    listed.add_argument("--json", action="store_true", help="everything that is written down about each step")
    action("verify", "read every byte and compare it with the hashes that were written with it")
    swept = action("gc", "remove steps that no study needs, damaged results and what killed runs left")
    swept.add_argument("--dry-run", action="store_true", help="say what would be removed")
    exported = action("export", "one portable file with all finished steps and records")
    exported.add_argument("--to", required=True, metavar="FILE", help="the archive (.zip)")
    bring = actions.add_parser(
        "import", help="copy finished steps and records that other folders have", formatter_class=p.formatter_class
    )
    bring.add_argument(
        "sources",
        nargs="+",
        metavar="FROM",
        help="folders of studies or tables, stores, or archives that export wrote; never changed",
    )
    bring.add_argument("--into", required=True, metavar="DIR", help="the folder that takes them in; made if absent")


def watch(p: argparse.ArgumentParser) -> None:
    """``ticketlab watch``."""
    p.description = _wrapped(
        "Shows how a study or a table stands, while it runs or not: what is done, what runs right now and how far it "
        "is, what failed, how long the rest will take, and what the results say so far. It only looks, from any "
        "process that can read the folder, and ends by itself when all is done. Not on a terminal, it prints that once."
    )
    p.add_argument("folder", metavar="DIR", help="the folder of a study or a table (--out)")
    p.add_argument("--every", type=float, default=2.0, metavar="S", help="seconds between two looks (default: 2)")
    p.add_argument("--once", action="store_true", help="look once")
    p.add_argument("--json", action="store_true", help="look once; stdout holds only what was seen, as JSON")


def _ticket(p: argparse.ArgumentParser, written: str) -> Group:
    what = p.add_argument_group("which ticket")
    what.add_argument("--method", required=True, metavar="METHOD", help='"snip", "imp,rounds=5", "scores:my_score"')
    what.add_argument("--sparsity", type=float, metavar="S", help="the fraction removed, in [0, 1)")
    what.add_argument("--seed", type=int, default=0, metavar="N", help="draws weights, batches and masks (default: 0)")
    what.add_argument("--out", required=True, metavar="FILE", help=f"where {written} goes (safetensors)")
    _data_and_model(what)
    return what


def _single(p: argparse.ArgumentParser) -> None:
    run = _running(p, "default: tuned")
    _store(run)
    run.add_argument(
        "--work", metavar="DIR", help="where finished steps are kept (default: runs/ and a name made from the request)"
    )
    run.add_argument("--json", action="store_true", help="stdout holds only the facts as JSON")


def _data_and_model(what: Group) -> None:
    _data(what)
    what.add_argument("--limit-train", type=int, metavar="N", help="use N training examples, class-balanced")
    what.add_argument("--limit-test", type=int, metavar="N", help="use N test examples, class-balanced")
    what.add_argument("--model", default="conv", help="a model, or package:factory of your own (default: conv)")
    what.add_argument("--per-class", type=int, default=10, metavar="N", help="scoring images per class (default: 10)")


def _data(container: Container) -> None:
    container.add_argument("--data", default="digits", help="a data set: see `ticketlab list data` (default: digits)")
    _data_dir(container)


def _data_dir(container: Container) -> None:
    container.add_argument("--data-dir", metavar="DIR", help="the folder with the data; never downloads then")


def _device(container: Container) -> None:
    container.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def _recipe(p: argparse.ArgumentParser) -> None:
    how = p.add_argument_group("how tickets are trained (defaults depend on the data)")
    how.add_argument("--epochs", type=float, metavar="N", help="passes over the data; fractions are allowed")
    how.add_argument("--batch-size", type=int, metavar="N")
    how.add_argument("--lr", type=float)
    how.add_argument("--momentum", type=float)
    how.add_argument("--weight-decay", type=float)
    how.add_argument("--schedule", metavar="NAME", help="step (x0.1 at 1/2 and 3/4), cosine or constant")
    how.add_argument("--warmup", type=float, metavar="N", help="epochs in which the rate grows to its full value")
    how.add_argument("--no-augment", action="store_const", const=False, dest="augment", help="no crops and flips")


def _running(p: argparse.ArgumentParser, engine: str) -> Group:
    run = p.add_argument_group("running")
    _device(run)
    run.add_argument(
        "--precision", default="fp32", metavar="P", help="of all trainings: fp32, bf16, or tf32 on GPUs (default: fp32)"
    )
    run.add_argument(
        "--checkpoint-every",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds between two checkpoints of a training, from which it goes on when stopped (default: 60)",
    )
    run.add_argument("--engine", metavar="E", help=f"what trains the tickets; see `ticketlab bench` ({engine})")
    run.add_argument(
        "--sparse",
        choices=["auto", "on", "off"],
        default="auto",
        help="train tickets on the sparse kernels (--engine sparse), or never; auto: where the engine is measured and "
        "they are clearly faster (default: auto)",
    )
    return run


def _wrapped(text: str) -> str:
    return textwrap.fill(text, width=76)
