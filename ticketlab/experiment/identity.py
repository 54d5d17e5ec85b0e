"""Identities: hashes of what defines a thing, known before anything runs."""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import json
import linecache
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any


def digest(value: Any) -> str:
    """A hash of a JSON-able value that does not depend on the order of keys (32 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def source(thing: Callable[..., Any]) -> str:
    """A hash of the code behind a function, class or callable object of the user's own, the same in every process.

    Covers the functions, classes and constants of the same module that it uses, however deep, its defaults and what
    it closes over; comments, docstrings and formatting do not count. So an edit of the function changes the hash,
    and an edit of something else in the file does not.
    """
    reader = _Reader()
    return digest([reader.read(thing), reader.parts])


# What these do is pinned by the version of torch in a study's numerics, and by the revisions of the steps.
_NOT_THE_USERS = ("torch", "ticketlab", "builtins", "numpy", "functools")


class _Reader:
    """Describes values in plain words. The code of functions and classes goes to ``parts``, once each."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self._home: str | None = None
        self._seen: dict[int, int] = {}
        self._keep: list[Any] = []

    def read(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, (float, complex, bytes)):
            return repr(value)
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *(self.read(v) for v in value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(repr(self.read(v)) for v in value)]
        if isinstance(value, Mapping):
            return ["mapping", *sorted((repr(self.read(k)), self.read(v)) for k, v in value.items())]
        if isinstance(value, functools.partial):
            return ["partial", self.read(value.func), self.read(value.args), self.read(value.keywords)]
        if isinstance(value, MethodType):
            return ["method", self.read(value.__func__), self.read(value.__self__)]
        if isinstance(value, ModuleType):
            return value.__name__
        if hasattr(value, "__array__"):
            array = value.__array__()
            return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        if isinstance(value, (FunctionType, type)):
            return self._code(value)
        return self._instance(value)

    def _code(self, thing: FunctionType | type) -> Any:
        module = str(thing.__module__)
        if module.split(".")[0] in _NOT_THE_USERS or self._home not in (None, module):
            return f"{module}.{thing.__qualname__}"
        self._home = module
        return self._once(thing, self._function if isinstance(thing, FunctionType) else self._class)

    def _instance(self, value: Any) -> Any:
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        inner = getattr(value, "__wrapped__", None)
        if inner is not None:
            return [name, self.read(inner)]
        if self._home not in (None, type(value).__module__) or not hasattr(value, "__dict__"):
            return name
        return self._once(value, lambda v: ["instance", self.read(type(v)), self.read(vars(v))])

    def _once(self, thing: Any, describe: Callable[[Any], Any]) -> Any:
        if id(thing) not in self._seen:
            self._seen[id(thing)] = len(self.parts)
            # An address may be used again once its object is gone.
            self._keep.append(thing)
            self.parts.append(None)
            self.parts[self._seen[id(thing)]] = describe(thing)
        return ["part", self._seen[id(thing)]]

    def _function(self, function: FunctionType) -> Any:
        text = _lambda(function) if function.__name__ == "<lambda>" else _text(function.__code__)
        return [
            text or _bytecode(function.__code__),
            self.read(function.__defaults__),
            self.read(function.__kwdefaults__),
            [[name, self.read(value)] for name, value in _used(function)],
        ]

    def _class(self, thing: type) -> Any:
        text = _text(thing)
        functions = sorted(_functions(thing), key=lambda pair: pair[0])
        bases = [self.read(base) for base in thing.__bases__]
        if text is None:
            return [bases, [[name, self.read(f)] for name, f in functions]]
        uses = [[name, key, self.read(value)] for name, f in functions for key, value in _used(f)]
        return [text, bases, uses]


def _text(thing: Any) -> str | None:
    """The code as a tree without comments, docstrings and layout; None without source (an interactive session)."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(node, False):
            node.body = node.body[1:]
    return ast.dump(tree)


def _lambda(function: FunctionType) -> str | None:
    """A lambda's own part of its line; all lambdas of the line if there are several."""
    code = function.__code__
    linecache.checkcache(code.co_filename)
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        return None
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == code.co_firstlineno]
    return "\n".join(map(ast.dump, found)) or None


def _bytecode(code: CodeType) -> list[Any]:
    inner = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), inner]


def _functions(thing: type) -> Iterator[tuple[str, FunctionType]]:
    for name, value in vars(thing).items():
        inner = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        if isinstance(inner, FunctionType):
            yield name, inner


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals that a function reads (what it also writes is its state, no constant), and what it closes over."""
    read, written = _globals(function.__code__)
    for name in sorted(read - written):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure {name}", cell.cell_contents
        except ValueError:
            continue


def _globals(code: CodeType) -> tuple[set[str], set[str]]:
    read, written = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(str(instruction.argval))
        elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            written.add(str(instruction.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _globals(constant)
            read |= inner[0]
            written |= inner[1]
    return read, written
