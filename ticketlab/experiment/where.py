"""Where steps are computed: in this process, in several on this machine, or on a cluster."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from ticketlab.errors import InputError
from ticketlab.experiment.context import Context
from ticketlab.experiment.run import InProcess, Runner


@dataclass(frozen=True)
class Where:
    """The processes that compute. Results do not depend on it.

    Attributes:
        jobs: worker processes of this machine (1: this process alone), or jobs of Slurm.
        scheduler: the address of a Dask scheduler whose workers compute.
        slurm: start the workers as jobs of Slurm.
        dashboard: show Dask's dashboard of the workers of this machine.

    Raises:
        InputError: fewer than one job, or a scheduler and Slurm at once.
    """

    jobs: int = 1
    scheduler: str | None = None
    slurm: bool = False
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InputError(f"asked for {self.jobs} jobs, got fewer than one.")
        if self.scheduler and self.slurm:
            raise InputError(f"asked for --slurm and the scheduler at {self.scheduler}, got two clusters: choose one.")

    @classmethod
    def of(cls, asked: int | Where) -> Where:
        """A number of processes of this machine, or what says it all."""
        return asked if isinstance(asked, Where) else cls(asked)

    @property
    def elsewhere(self) -> bool:
        """Whether other machines compute: then nothing is known of their cores and memory here."""
        return bool(self.scheduler or self.slurm)

    @property
    def alone(self) -> bool:
        """Whether this process does everything itself."""
        return self.jobs == 1 and not self.elsewhere


def check_portable(context: Context, where: Where) -> None:
    """Refuse what cannot be sent to other processes, if any compute.

    Raises:
        InputError: the model's factory or a method cannot be pickled.
    """
    if where.alone:
        return
    import cloudpickle

    sent = context.__getstate__()
    for what, thing in [("model", context.build), *((f"method {n}", m) for n, m in sent["methods"].items())]:
        try:
            cloudpickle.dumps(thing)
        except Exception as error:
            raise InputError(
                f"asked for {where.jobs} jobs, got a {what} that cannot be sent to other processes ({error}). "
                "Define it at the top level of a module, or use jobs=1."
            ) from error


class Workers(Protocol):
    """Whoever computes, for as long as this is open: several studies may be brought to them in turn."""

    def __enter__(self) -> Workers: ...

    def __exit__(self, *error: object) -> None: ...

    def runner(self, context: Context) -> Runner:
        """A runner for the steps of one study."""


class Alone:
    """This process does everything itself."""

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def runner(self, context: Context) -> Runner:
        """A runner for the steps of one study."""
        return InProcess(context)


class Elsewhere:
    """Other processes, started when the first step needs them: a study that is finished needs none."""

    def __init__(self, where: Where, memory: int) -> None:
        self._where = where
        self._memory = memory
        self._stack = ExitStack()
        self._cluster: Workers | None = None

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster = None
        self._stack.close()

    def runner(self, context: Context) -> Runner:
        """A runner for the steps of one study."""
        if self._cluster is None:
            self._cluster = self._stack.enter_context(_cluster(self._where, self._memory))
        return self._cluster.runner(context)


def workers(where: Where, memory: int = 0) -> Workers:
    """The workers there.

    Args:
        memory: what a process may need, in bytes: asked of a cluster's workers where they declare theirs.
    """
    return Alone() if where.alone else Elsewhere(where, memory)


def _cluster(where: Where, memory: int) -> Workers:
    # Dask takes its time to import; nobody waits for it who does without.
    from ticketlab.experiment.cluster import Joined, LocalWorkers, Slurm

    if where.scheduler:
        return Joined(where.scheduler, memory)
    return Slurm(where.jobs, memory) if where.slurm else LocalWorkers(where.jobs, where.dashboard)
