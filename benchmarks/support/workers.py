"""Worker processes that wait at a pipe, asleep, until they are told to run some steps."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from support.others import used
from ticketlab.errors import InputError


class Team:
    """Processes that do the same kind of work at the same time, each with its own data and nets.

    Args:
        calls: for each process a function (of a module's top level) and its arguments; it returns the images of one
            step and the function that runs steps.
        threads: torch's threads in each process; None leaves torch's default, one per core.

    Raises:
        InputError: a process refused its work; RuntimeError: it broke.
    """

    def __init__(self, calls: Sequence[tuple[Callable[..., Any], Any]], threads: int | None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for function, arguments in calls:
            mine, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, function, arguments, threads), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        try:
            self._images = sum(self._answers())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def processor_time(self) -> float:
        """Seconds that these processes have computed so far, over all cores."""
        return used([process.pid for process in self._processes if process.pid])

    def run(self, steps: int) -> float:
        """Images per second of all processes together, from the start signal to the last one's end."""
        started = time.perf_counter()
        for pipe in self._pipes:
            pipe.send(steps)
        self._answers()
        return self._images * steps / (time.perf_counter() - started)

    def steps_for(self, seconds: float) -> int:
        """How many steps take about so long. Warms up, so that what is compiled at first use is compiled."""
        self.run(1)
        steps, took = 1, 0.0
        while took < seconds / 4:
            took = self._images * steps / self.run(steps)
            steps = max(steps + 1, min(8 * steps, round(steps * seconds / took)))
        return steps

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(0)
            pipe.close()
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.terminate()

    def _answers(self) -> list[Any]:
        found = []
        for pipe in self._pipes:
            try:
                what, value = pipe.recv()
            except EOFError:
                what, value = "broke", "a worker process died"
            if what == "refused":
                raise InputError(value)
            if what == "broke":
                raise RuntimeError(value)
            found.append(value)
        return found


def _serve(pipe: Connection, function: Callable[..., Any], arguments: Any, threads: int | None) -> None:
    """A worker process: set up, then run steps until told 0 of them."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        images, advance = function(*arguments)
        pipe.send(("ready", images))
        while steps := pipe.recv():
            advance(steps)
            pipe.send(("done", steps))
    except InputError as error:
        pipe.send(("refused", str(error)))
    except (EOFError, KeyboardInterrupt):
        pass
    except Exception:
        pipe.send(("broke", traceback.format_exc()))
