"""ticketlab: does a pruning method beat chance?

The public names, imported when they are first used, so that the command line answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ticketlab import budget as budget
    from ticketlab import distributed as distributed
    from ticketlab.diagnosis import Diagnosis as Diagnosis
    from ticketlab.diagnosis import diagnose as diagnose
    from ticketlab.enforcement import enforce as enforce
    from ticketlab.engine.job import Trained as Trained
    from ticketlab.engine.recipe import Recipe as Recipe
    from ticketlab.errors import DensePathWarning as DensePathWarning
    from ticketlab.errors import EmptyLayerWarning as EmptyLayerWarning
    from ticketlab.errors import InputError as InputError
    from ticketlab.experiment.api import Report as Report
    from ticketlab.experiment.api import check as check
    from ticketlab.experiment.where import Where as Where
    from ticketlab.export.formats import export_ticket as export_ticket
    from ticketlab.finding import find as find
    from ticketlab.mask import Mask as Mask
    from ticketlab.methods import Method as Method
    from ticketlab.methods import register as register
    from ticketlab.parameters import prunable as prunable
    from ticketlab.program import Ticket as Ticket
    from ticketlab.pruning import prune as prune
    from ticketlab.scoring import Scoring as Scoring
    from ticketlab.sparse.compiled import compile_ticket as compile_ticket
    from ticketlab.ticket_file import TicketFile as TicketFile
    from ticketlab.ticket_file import load_ticket as load_ticket
    from ticketlab.training import train as train

__version__ = "0.1.0"

_HOMES = {
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "enforce": "enforcement",
    "Recipe": "engine.recipe",
    "DensePathWarning": "errors",
    "EmptyLayerWarning": "errors",
    "InputError": "errors",
    "Report": "experiment.api",
    "check": "experiment.api",
    "Where": "experiment.where",
    "export_ticket": "export.formats",
    "find": "finding",
    "Mask": "mask",
    "Method": "methods",
    "register": "methods",
    "prunable": "parameters",
    "Ticket": "program",
    "prune": "pruning",
    "Scoring": "scoring",
    "compile_ticket": "sparse.compiled",
    "train": "training",
    "Trained": "engine.job",
    "TicketFile": "ticket_file",
    "load_ticket": "ticket_file",
}

_MODULES = ("budget", "distributed")

__all__ = ["__version__", *_MODULES, *_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"ticketlab.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"ticketlab.{name}")
    raise AttributeError(f"module 'ticketlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
