"""Packages that only some data sets need."""

from __future__ import annotations

import importlib
from typing import Any

from ticketlab.errors import InputError


def optional(module: str) -> Any:
    """The module, or InputError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"this data needs {module.split('.')[0]}, which is not there: pip install 'ticketlab[data]'"
        ) from error
