"""The long run: ``python -m tests.fuzz --inputs 100000``. Exits with 1 if anything was found."""

from __future__ import annotations

import argparse
import faulthandler
import os
import time
import traceback

import torch

from .readers import READERS
from .run import fuzz


def main() -> int:
    """Share the inputs out, feed them, and say what became of them."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Fuzz everything that reads from outside."
    )
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N", help="over all readers (default: 100000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="other inputs for another one (default: 0)")
    parser.add_argument(
        "--reader", action="append", choices=READERS, metavar="NAME", help="only this one; may be repeated"
    )
    options = parser.parse_args()
    # A native crash says where; files of these runs need not survive a loss of power.
    faulthandler.enable()
    os.fsync = lambda descriptor: None
    torch.set_num_threads(1)
    chosen = [reader for name, reader in READERS.items() if name in (options.reader or READERS)]
    shares = sum(reader.weight for reader in chosen)
    begin, total, findings = time.monotonic(), 0, 0
    print(f"{'reader':26} {'inputs':>8} {'read':>8} {'refused':>8} {'seconds':>8}", flush=True)
    for reader in chosen:
        since = time.monotonic()
        try:
            counted = fuzz(reader, -int(-options.inputs * reader.weight // shares), options.seed)
        except Exception:
            findings += 1
            print(f"{reader.name:26} BROKEN\n{_short(traceback.format_exc())}", flush=True)
            continue
        total += sum(counted.values())
        numbers = (sum(counted.values()), counted["read"], counted["refused"])
        told = " ".join(f"{n:8,}" for n in numbers)
        print(f"{reader.name:26} {told} {time.monotonic() - since:8.0f}", flush=True)
    print(f"{total:,} inputs in {time.monotonic() - begin:,.0f} s; broken: {findings} of {len(chosen)} readers")
    return 1 if findings else 0


def _short(text: str, lines: int = 60) -> str:
    """The end of a trace, without the bytes of large inputs."""
    return "\n".join(line[:300] for line in text.splitlines()[-lines:])


if __name__ == "__main__":
    raise SystemExit(main())
