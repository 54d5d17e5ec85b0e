"""Specs: how a method is named on the command line, "grasp,temperature=1" or "scores:my_score,rounds=10"."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ticketlab.errors import InputError, unknown
from ticketlab.methods import METHODS, SAMPLED, Method, sampled, validated
from ticketlab.scoring import ScoreFunction, name_of, takes_scoring

_code_allowed: ContextVar[bool] = ContextVar("code_allowed", default=True)


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """``"name,option=value,..."`` -> ``(name, {option: value})``.

    Raises:
        InputError: an option without "=".
    """
    name, *pairs = text.split(",")
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key.strip()):
            raise InputError(f"asked for method {text!r}, got {pair!r} where option=value is needed.")
        options[key.strip()] = value_of(value.strip())
    return name.strip(), options


def value_of(text: str) -> Any:
    """A number, true, false, none, or else the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def label(name: str, options: dict[str, Any]) -> str:
    """The canonical spelling of a spec: options in alphabetical order."""

    def spell(value: Any) -> str:
        if isinstance(value, bool) or value is None:
            return str(value).lower()
        # The short form only where it reads back as the same number: two options must never share a label.
        return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)

    return ",".join([name, *(f"{key}={spell(options[key])}" for key in sorted(options))])


def resolve(method: str | Method | ScoreFunction) -> tuple[Method, dict[str, Any]]:
    """The method that is meant, and the options that its spec carries.

    Raises:
        InputError: an unknown name, a module or function that is not there.
    """
    if isinstance(method, Method):
        return validated(method), {}
    if not isinstance(method, str):
        return from_function(method), {}
    name, options = parse(method)
    if ":" in name:
        plain = name.removesuffix(SAMPLED)
        found = from_function(import_named(plain), plain)
        return (sampled(found) if name.endswith(SAMPLED) else found), options
    if name not in METHODS and name.endswith(SAMPLED) and name.removesuffix(SAMPLED) in METHODS:
        return sampled(METHODS[name.removesuffix(SAMPLED)]), options
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name], options


def from_function(score: ScoreFunction | Method, name: str | None = None) -> Method:
    """A one-shot global method from a score function; its keyword arguments become options.

    A ``Method`` found under the name is taken as it is.
    """
    if isinstance(score, Method):
        return validated(score)
    if not callable(score):
        raise InputError(f"asked for {name or score!r} as a method, got {type(score).__name__}, not a function.")
    try:
        takes_scoring(score)
    except (ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"asked for {name or name_of(score)!r} as a method, got what says no arguments: {error}."
        ) from error
    options = {p.name: p.default for p in inspect.signature(score).parameters.values() if p.default is not p.empty}
    summary = (inspect.getdoc(score) or "").split("\n")[0]
    return Method(name or name_of(score), score=score, options=options, summary=summary, paper="yours")


@contextmanager
def no_code() -> Iterator[None]:
    """Meanwhile nothing is imported by name: for names that come from a file, which may be somebody else's."""
    token = _code_allowed.set(False)
    try:
        yield
    finally:
        _code_allowed.reset(token)


def import_named(name: str) -> Callable[..., Any]:
    """The object that ``package.module:name`` names, from the import path or the current folder.

    Raises:
        InputError: there is no such module, or nothing of that name in it.
    """
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute):
        raise InputError(f"asked for {name!r}, got no name on both sides of the colon: package.module:function.")
    if not _code_allowed.get():
        raise InputError(
            f"asked for {name!r}, which a file names, got code that is not imported for that: run the command of the "
            "study again, or add --own-code if the study is yours."
        )
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise InputError(f"asked for {name!r}, got a module that needs {error.name!r}, not installed.") from error
        raise InputError(
            f"asked for {name!r}, got no module {module_name!r} in {folder} or the import path."
        ) from error
    except Exception as error:
        raise InputError(f"asked for {name!r}, got {type(error).__name__} on importing it: {error}.") from error
    found = getattr(module, attribute, None)
    if found is None:
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise unknown(f"function of {module_name}", attribute, known)
    return found  # type: ignore[no-any-return]
