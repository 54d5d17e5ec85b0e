"""Between a run and its loggers: every finished training is told once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ticketlab.experiment.arms import ORIGINAL, Arm, Plan
from ticketlab.experiment.step import Step
from ticketlab.experiment.store import Store
from ticketlab.logging.logger import Logger, Training, as_logger


def listener(
    loggers: Iterable[Logger | Callable[[Training], object]], plans: Mapping[str, Plan], store: Store
) -> Listening:
    """What hears of finished steps for the loggers. Tells them at once of what is finished already.

    Args:
        loggers: objects with ``training(record)`` and ``close()``, or functions of a record.
        plans: data set and model ("digits/conv") -> the plan, with the arms that give trainings their names.
        store: where the results are. Nothing in it is changed.

    Raises:
        InputError: something else than a logger.
    """
    heard = Listening([as_logger(logger) for logger in loggers], store)
    for where, plan in plans.items():
        heard.add(where, plan)
    return heard


class Listening:
    """Hears of finished steps and tells the loggers of the trainings among them, each once.

    A logger that fails is not asked again, with a warning: curves are not worth hours of training.
    """

    def __init__(self, loggers: list[Logger], store: Store) -> None:
        self._loggers = loggers
        self._store = store
        self._tickets: dict[str, tuple[str, Step, Arm | None]] = {}
        self._told: set[str] = set()

    def add(self, where: str, plan: Plan) -> None:
        """Know the trainings of a plan, and tell of those that are finished already. Plans may grow, look by look."""
        arms: dict[str, Arm] = {}
        for arm, trained in plan.arms.items():
            # A rival's ticket is one of its own: it is named by what it is, not by whom it is compared with.
            if trained.final not in arms or arm.check == ORIGINAL:
                arms[trained.final] = arm
        for step_id, step in plan.steps.items():
            if step.kind == "train" and step_id not in self._tickets:
                self._tickets[step_id] = (where, step, arms.get(step_id))
                self._tell(step_id)

    def finished(self, step: Step, seconds: float, linked: bool) -> None:
        """A step is finished."""
        if step.id in self._tickets:
            self._tell(step.id)

    def failed(self, failure: object) -> None:
        """A step failed: that is no training to tell of."""

    def close(self) -> None:
        """No more steps in this run."""
        for logger in list(self._loggers):
            self._call(logger, logger.close)
        self._loggers = []

    def _tell(self, step_id: str) -> None:
        # What is damaged stays, to be computed again.
        if not self._loggers or step_id in self._told or (record := self._store.peek(step_id)) is None:
            return
        self._told.add(step_id)
        where, step, arm = self._tickets[step_id]
        training = _training(where, step, arm, record)
        for logger in list(self._loggers):
            self._call(logger, logger.training, training)

    def _call(self, logger: Logger, function: Callable[..., None], *arguments: Training) -> None:
        try:
            function(*arguments)
        except Exception as error:
            self._loggers.remove(logger)
            text = f"{type(error).__name__}: {error}"
            warnings.warn(f"a logger failed and hears no more of this run ({text})", RuntimeWarning, stacklevel=2)


def _training(where: str, step: Step, arm: Arm | None, record: Mapping[str, Any]) -> Training:
    facts = record["facts"]
    return Training(
        step=step.id,
        label=step.label,
        where=where,
        method=arm.method if arm else None,
        check=arm.check if arm else None,
        sparsity=arm.sparsity if arm else None,
        seed=int(step.params["seed"]),
        accuracy=facts.get("accuracy"),
        history=tuple(facts.get("history", ())),
        seconds=float(record["seconds"]),
        finished=float(record["finished"]),
    )
