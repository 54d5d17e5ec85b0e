"""The command line: ``ticketlab check | list | show | report``.

Nothing heavy is imported before a command runs: ``--help`` must answer at once.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence

from rich_argparse import RawDescriptionRichHelpFormatter

from ticketlab.errors import InputError

EXAMPLES = """examples:
  ticketlab check snip --data digits --model conv --sparsity 0.9 --seeds 10
  ticketlab check scores:my_score snip --data cifar10 --model resnet20 --sparsity 0.9 --seeds 10
  ticketlab list methods
  ticketlab show runs/first
  ticketlab report runs/first --html r.html --csv t.csv --latex t.tex"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns 0, 1 (a requirement is not met), 2 (bad input), 3 (an error in the program or in code of the user's own,
    with its traceback) or 130 (interrupted).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    try:
        return _run(options, arguments)
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


def _run(options: argparse.Namespace, arguments: list[str]) -> int:
    if options.command == "check":
        from ticketlab.commands.check import run_check

        return run_check(options, arguments)
    if options.command == "list":
        from ticketlab.commands.listing import run_list

        return run_list(options)
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
    _check(commands.add_parser("check", help="run the sanity checks of pruning methods", formatter_class=_Formatter))
    listing = commands.add_parser(
        "list", help="what there is: methods, checks, models, data", formatter_class=_Formatter
    )
    listing.add_argument("what", choices=["methods", "checks", "models", "data"])
    listing.add_argument("--json", action="store_true", help="as JSON")
    show = commands.add_parser("show", help="print what a study says, finished or not", formatter_class=_Formatter)
    show.add_argument("folder", help="the study's folder (--out of check)")
    show.add_argument("--json", action="store_true", help="the whole document as JSON")
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
    return top


class _Formatter(RawDescriptionRichHelpFormatter):
    """Rich help, as wide as the terminal, at most 110 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(110, shutil.get_terminal_size().columns) - 2)


def _check(p: argparse.ArgumentParser) -> None:
    p.usage = "ticketlab check METHOD [METHOD ...] [options]"
    p.description = textwrap.fill(
        "Trains the tickets that the methods find, and their twins found on tampered data or with tampered masks, "
        "over several seeds, and says of every difference whether it is real, with an interval. A method is a "
        "registered name, NAME,option=value, or module:function for a score of your own. Stopped or finished, the "
        "same command goes on where it was.",
        width=76,
    )
    p.add_argument("methods", nargs="+", metavar="METHOD", help='"snip", "grasp,temperature=1", "scores:my_score"')
    what = p.add_argument_group("what is studied")
    what.add_argument("--data", default="digits", help="a data set: see `ticketlab list data` (default: digits)")
    what.add_argument("--data-dir", metavar="DIR", help="the folder with the data; never downloads then")
    what.add_argument("--limit-train", type=int, metavar="N", help="use N training examples, class-balanced")
    what.add_argument("--limit-test", type=int, metavar="N", help="use N test examples, class-balanced")
    what.add_argument("--model", default="conv", help="a model, or package:factory of your own (default: conv)")
    what.add_argument(
        "--sparsity", type=float, nargs="+", default=[0.9], metavar="S", help="fractions removed (default: 0.9)"
    )
    what.add_argument(
        "--checks", nargs="+", metavar="CHECK", help="names, versus:METHOD, or all; see `ticketlab list checks`"
    )
    what.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds per ticket, at least 3 (default: 5)")
    what.add_argument("--per-class", type=int, default=10, metavar="N", help="scoring images per class (default: 10)")

    how = p.add_argument_group("how tickets are trained (defaults depend on the data)")
    how.add_argument("--epochs", type=int, metavar="N")
    how.add_argument("--batch-size", type=int, metavar="N")
    how.add_argument("--lr", type=float)
    how.add_argument("--momentum", type=float)
    how.add_argument("--weight-decay", type=float)
    how.add_argument("--schedule", metavar="NAME", help="step (x0.1 at 1/2 and 3/4), cosine or constant")
    how.add_argument("--no-augment", action="store_const", const=False, dest="augment", help="no crops and flips")

    judge = p.add_argument_group("how verdicts are reached")
    judge.add_argument("--margin", help='the drop that matters: points ("0.5") or a share of dense - chance ("2%%")')
    judge.add_argument("--alpha", type=float, default=0.05, help="chance of a false claim of each kind (default: 0.05)")
    judge.add_argument("--final", action="store_true", help="no seeds will be added later: spend all of alpha now")
    judge.add_argument("--multiplicity", choices=["holm", "bh", "none"], default="holm")
    judge.add_argument("--family", choices=["report", "method"], default="report")
    judge.add_argument("--test", choices=["paired", "welch"], default="paired")

    run = p.add_argument_group("running")
    run.add_argument("--out", metavar="DIR", help="the study's folder (default: runs/ and a name made from the study)")
    run.add_argument("--jobs", type=int, metavar="N", help="worker processes (default: one per core)")
    run.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    run.add_argument("--dry-run", action="store_true", help="print the steps and the estimated time, run nothing")
    run.add_argument("--html", metavar="FILE", help="where the report goes (default: report.html in the folder)")
    run.add_argument("--json", action="store_true", help="stdout holds only the results as JSON")
    run.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="R",
        help='exit 1 unless met: "snip:rearrange=uses" (or does-not-use, better, decided; CHECK@0.9)',
    )
