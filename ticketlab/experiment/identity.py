"""Identities: hashes of what defines a thing, known before anything runs."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any


def digest(value: Any) -> str:
    """A hash of a JSON-able value that does not depend on the order of keys (32 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def source(thing: Callable[..., Any]) -> str:
    """A hash of the code behind a function or class of the user's own.

    Covers the functions, classes and plain constants of the same module that it uses, however deep, and what it
    closes over; comments and formatting do not count. So an edit of the function changes the hash, and an edit of
    something else in the file does not.
    """
    parts: dict[str, str] = {}
    _collect(thing, parts)
    return digest(parts)


def _collect(thing: Any, parts: dict[str, str]) -> None:
    key = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"
    if key in parts:
        return
    try:
        text = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        # No source (interactive session, functools.partial, instances): what can be printed must do.
        code = getattr(thing, "__code__", None)
        parts[key] = code.co_code.hex() + repr(code.co_consts) if code else repr(thing)
    else:
        try:
            parts[key] = ast.dump(ast.parse(text))
        except SyntaxError:
            # A lambda inside an expression: its line is no statement of its own.
            parts[key] = text.strip()
    for function in _functions(thing):
        for name, value in _used(function):
            if isinstance(value, (FunctionType, type)):
                if value.__module__ == getattr(thing, "__module__", None):
                    _collect(value, parts)
            elif isinstance(value, (bool, int, float, str, tuple, frozenset, type(None))):
                parts[f"{key}:{name}"] = repr(value)


def _functions(thing: Any) -> Iterator[FunctionType]:
    if isinstance(thing, FunctionType):
        yield thing
    elif isinstance(thing, type):
        for value in vars(thing).values():
            inner = getattr(value, "__func__", value)
            if isinstance(inner, FunctionType):
                yield inner
        for base in thing.__bases__:
            if base.__module__ == thing.__module__:
                yield from _functions(base)
    elif hasattr(thing, "func"):
        yield from _functions(thing.func)


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name in sorted(_names(function.__code__)):
        value = function.__globals__.get(name)
        if value is not None and not isinstance(value, ModuleType):
            yield name, value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure {name}", cell.cell_contents
        except ValueError:
            continue


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names
