"""The command line: check, train, prune, export, speed, reproduce, watch, sketch, bench, store, list, show and report.

Nothing heavy is imported before a command runs: ``--help`` must answer at once.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import traceback
from collections.abc import Sequence

from rich_argparse import RawDescriptionRichHelpFormatter

from ticketlab import arguments
from ticketlab.errors import FailedStep, InputError

EXAMPLES = """does a method find anything?
  ticketlab check snip --data digits --model conv --sparsity 0.9 --seeds 10
  ticketlab check scores:my_score snip --data cifar10 --model resnet20 --sparsity 0.9 --seeds 10
  ticketlab list methods
  ticketlab watch runs/first
  ticketlab show runs/first
  ticketlab report runs/first --html r.html --csv t.csv --latex t.tex

a finished ticket, to use:
  ticketlab train --method snip --sparsity 0.95 --data digits --model conv --out ticket.safetensors
  ticketlab train --method dense --data digits --model conv --out dense.safetensors

the same ticket for elsewhere, and what it gains in speed:
  ticketlab export ticket.safetensors --to small.safetensors
  ticketlab export ticket.safetensors --to model.onnx --format onnx
  ticketlab speed ticket.safetensors

only a mask:
  ticketlab prune --method synflow --sparsity 0.9 --data digits --model conv --out mask.safetensors
  ticketlab prune --method magnitude --sparsity 0.9 --weights dense.safetensors --out mask.safetensors

a paper's table:
  ticketlab reproduce su2020/random-tickets --quick --data-dir DIR
  ticketlab reproduce su2020/random-tickets --cell cifar10/resnet32/0.98 --data-dir DIR
  ticketlab store import runs/from-a runs/from-b --into runs/all

the theory of masks drawn at the start, on data:
  ticketlab sketch
  ticketlab sketch --standardise --draws 10% 50% 200% --kinds optimal magnitude uniform

how long will it take here?
  ticketlab bench --data cifar10 --model resnet20 --tickets 100"""


OWN_CODE = "import scores (module:function) that an unfinished study names"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns 0, 1 (a requirement is not met, or a step failed), 2 (bad input), 3 (an error in the program or in code of
    the user's own, with its traceback) or 130 (interrupted).
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(typed)
    try:
        return _run(options, typed)
    except FailedStep as error:
        _complain(str(error))
        return 1
    except InputError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain("stopped; finished steps are kept, the same command goes on from there.", "ticketlab")
        return 130
    except BrokenPipeError:
        # The reader of the pipe went away (head, less): nothing is wrong.
        sys.stderr.close()
        return 0
    except Exception:
        traceback.print_exc()
        return 3


def _run(options: argparse.Namespace, typed: list[str]) -> int:
    if options.command in ("check", "train", "speed", "bench", "reproduce"):
        from ticketlab.engine.allocator import keep_freed_memory

        keep_freed_memory()
    if options.command == "check":
        from ticketlab.commands.check import run_check

        return run_check(options, typed)
    if options.command == "train":
        from ticketlab.commands.train import run_train

        return run_train(options)
    if options.command == "prune":
        from ticketlab.commands.prune import run_prune

        return run_prune(options)
    if options.command == "export":
        from ticketlab.commands.export import run_export

        return run_export(options)
    if options.command == "speed":
        from ticketlab.commands.speed import run_speed

        return run_speed(options)
    if options.command == "bench":
        from ticketlab.commands.bench import run_bench

        return run_bench(options)
    if options.command == "list":
        from ticketlab.commands.listing import run_list

        return run_list(options)
    if options.command == "reproduce":
        from ticketlab.commands.reproduce import run_reproduce

        return run_reproduce(options)
    if options.command == "watch":
        from ticketlab.commands.watch import run_watch

        return run_watch(options)
    if options.command == "sketch":
        from ticketlab.commands.sketch import run_sketch

        return run_sketch(options, typed)
    if options.command == "store":
        from ticketlab.commands.store import run_store

        return run_store(options)
    from ticketlab.commands.show import run_report, run_show

    return run_show(options) if options.command == "show" else run_report(options)


def _complain(message: str, prefix: str = "ticketlab: error") -> None:
    lines = f"{prefix}: {message}".splitlines()
    print("\n".join(lines[:12]), file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from ticketlab import __version__

    top = argparse.ArgumentParser(
        prog="ticketlab",
        description="Does a pruning method find anything that a random mask with the same layer ratios would not?",
        epilog=EXAMPLES,
        formatter_class=_Formatter,
    )
    top.add_argument("--version", action="version", version=f"ticketlab {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add, text in (
        (arguments.check, "run the sanity checks of pruning methods"),
        (arguments.train, "make one ticket, train it to the end and write it"),
        (arguments.prune, "find one mask and write it"),
        (arguments.export, "write a ticket as a compact file, ONNX or a state dict"),
        (arguments.speed, "how fast a ticket runs, in every engine, beside what its density allows"),
        (arguments.reproduce, "run a published table and compare"),
        (arguments.watch, "how a study or a table stands, live, from any process"),
        (arguments.sketch, "try the theory of pruning as sketching on linear models"),
        (arguments.store, "bring results of several machines together"),
        (arguments.bench, "how fast this machine trains, beside its limits"),
    ):
        add(commands.add_parser(add.__name__, help=text, formatter_class=_Formatter))
    listing = commands.add_parser(
        "list", help="what there is: methods, checks, models, data, engines, recipes", formatter_class=_Formatter
    )
    listing.add_argument("what", choices=["methods", "checks", "models", "data", "engines", "recipes"])
    listing.add_argument("--json", action="store_true", help="as JSON")
    show = commands.add_parser("show", help="print what a study says, finished or not", formatter_class=_Formatter)
    show.add_argument("folder", help="the study's folder (--out of check)")
    show.add_argument("--json", action="store_true", help="the whole document as JSON")
    show.add_argument("--own-code", action="store_true", help=OWN_CODE)
    report = commands.add_parser(
        "report", help="write a study's report as HTML, CSV, LaTeX or JSON", formatter_class=_Formatter
    )
    report.add_argument("folder", help="the study's folder (--out of check)")
    for kind, text in (
        ("html", "one self-contained page"),
        ("csv", "one row per verdict"),
        ("runs-csv", "one row per trained ticket"),
        ("latex", "a table"),
        ("json", "the whole document"),
    ):
        report.add_argument(f"--{kind}", metavar="FILE", help=text)
    report.add_argument("--own-code", action="store_true", help=OWN_CODE)
    return top


class _Formatter(RawDescriptionRichHelpFormatter):
    """Rich help, as wide as the terminal, at most 110 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(110, shutil.get_terminal_size().columns) - 2)
