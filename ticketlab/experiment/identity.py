"""Identities: hashes of what defines a thing, known before anything runs."""

from __future__ import annotations

import contextlib
import dis
import enum
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any


def digest(value: Any) -> str:
    """A hash of a JSON-able value that does not depend on the order of keys (32 hex digits)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def source(thing: Any, weights: bool = True) -> str:
    """A hash of the code behind a function, class, module or other object of the user's own.

    Covers the functions, classes and values that it uses, however deep and in whichever of the user's own files, its
    defaults and what it closes over, as they are in this process; comments, docstrings and formatting do not count.
    Equal in every process of the same Python version. Without ``weights``, modules count without their tensors.
    """
    reader = _Reader(weights)
    return digest([reader.read(thing), reader.parts])


# Objects that change as a program runs, or that hold all of it: by name.
_BY_NAME = {"io", "_io", "logging", "os", "threading", "_thread", "torch._ops"}
# What classes and modules have besides their code and values, or what depends on the place in the file.
_NOT_CODE = {"__dict__", "__weakref__", "__doc__", "__module__", "__name__", "__qualname__", "__firstlineno__"}
_NOT_CODE |= {"__annotations__", "__annotate_func__", "__annotations_cache__", "__static_attributes__", "__spec__"}
_NOT_CODE |= {"__abstractmethods__", "__builtins__", "__cached__", "__file__", "__loader__", "__package__", "__path__"}


class _Reader:
    """Describes values in plain words, without addresses. What has an identity goes to ``parts``, once each."""

    def __init__(self, weights: bool = True, deepest: int = 80) -> None:
        self.parts: list[Any] = []
        self._weights, self._deepest = weights, deepest
        self._open: list[int] = []
        self._seen: dict[int, tuple[int, Any]] = {}

    def read(self, value: Any) -> Any:
        if value is None or type(value) in (bool, str):
            return value
        if issubclass(type(value), ModuleType):
            return self._named(value, set())
        if id(value) in self._open or len(self._open) >= self._deepest:
            return _name(value)
        self._open.append(id(value))
        try:
            return self._read(value)
        except Exception:  # Exotic objects may raise anything; then their name has to do.
            return _name(value)
        finally:
            self._open.pop()

    def _read(self, value: Any) -> Any:
        if isinstance(value, enum.Enum):
            return ["enum", _name(type(value)), value.name, self.read(value.value)]
        if isinstance(value, (int, float, complex, str, bytes)):
            return [_name(type(value)), hex(value) if isinstance(value, int) else repr(value)]
        if type(value).__module__ in _BY_NAME:
            return _name(value)
        if isinstance(value, (list, tuple)):
            return [self.read(type(value)), *(self.read(v) for v in value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *(self.read(v) for v in sorted(value, key=self._order))]
        if isinstance(value, Mapping):
            items = sorted(value.items(), key=lambda item: self._order(item[0]))
            return [self.read(type(value)), *([self.read(k), self.read(v)] for k, v in items)]
        if isinstance(value, (MethodType, BuiltinMethodType)):
            return ["method", _name(value), self.read(getattr(value, "__func__", None)), self.read(value.__self__)]
        if isinstance(value, CodeType):
            return self._bytecode(value)
        if isinstance(value, FunctionType):
            return self._once(value, self._function)
        if isinstance(value, type):
            return self._once(value, self._class) if _own(value.__module__) else _name(value)
        return self._once(value, self._object)

    def _order(self, value: Any) -> str:
        """A key to sort by, the same in every process."""
        reader = _Reader(self._weights, self._deepest // 4)
        return repr([reader.read(value), reader.parts])

    def _once(self, thing: Any, describe: Callable[[Any], Any]) -> Any:
        if id(thing) not in self._seen:
            # Held on to, since an address may be used again once its object is gone.
            at, _ = self._seen[id(thing)] = len(self.parts), thing
            self.parts.append(_name(thing))
            self.parts[at] = describe(thing)
        return ["part", self._seen[id(thing)][0]]

    def _named(self, value: Any, names: set[str]) -> Any:
        """The value of a global in code with these names; of a module of the user's, the attributes among them."""
        if not isinstance(value, ModuleType):
            return self.read(value)
        if not _own(value.__name__) or id(value) in self._open or len(self._open) >= self._deepest:
            return value.__name__
        used = names & set(vars(value)) or set(vars(value))
        self._open.append(id(value))
        found = [[name, self._named(vars(value)[name], names)] for name in sorted(used - _NOT_CODE)]
        self._open.pop()
        return [value.__name__, *found]

    def _function(self, function: FunctionType) -> Any:
        code, cells = function.__code__, function.__closure__ or ()
        filled = [(n, c) for n, c in zip(code.co_freevars, cells, strict=True) if c != CellType()]
        closure = [[name, self.read(cell.cell_contents)] for name, cell in filled]
        home = str(function.__globals__.get("__name__"))
        if not _own(home):
            return [home, code.co_name, closure]
        names = {c for part in _codes(code) for c in (*part.co_names, *part.co_consts) if isinstance(c, str)}
        used, imported = _used(function)
        values = [[name, self._named(function.__globals__[name], names)] for name in sorted(used)]
        for name in sorted(imported):
            with contextlib.suppress(Exception):  # The import may never run.
                values.append([name, self._named(importlib.import_module(name), names)])
        defaults = self.read([function.__defaults__, function.__kwdefaults__])
        return [self._bytecode(code), defaults, closure, values]

    def _bytecode(self, code: CodeType) -> Any:
        """What runs, without line numbers, file names and docstrings."""
        arguments = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
        flags = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
        steps = [[i.opname, self.read(i.argval)] for i in dis.get_instructions(code)]
        named = list(code.co_varnames[: sum(arguments[::2])])
        return [arguments, flags, named, steps, getattr(code, "co_exceptiontable", b"").hex()]

    def _class(self, thing: type) -> Any:
        values = {name: value for name, value in vars(thing).items() if name not in _NOT_CODE}
        return [self.read(part) for part in (thing.__bases__, type(thing), values)]

    def _object(self, value: Any) -> Any:
        from torch import Tensor, nn

        from ticketlab.contents import tensors_digest

        kind = self.read(type(value))
        if isinstance(value, nn.Module):
            hidden = set(vars(nn.Module())) - {"training"}
            hooks = [*value._forward_pre_hooks.values(), *value._forward_hooks.values()]
            tensors = {**value._parameters, **value._buffers}
            weights = list(tensors.items()) if self._weights else list(tensors)
            plain = {name: v for name, v in vars(value).items() if name not in hidden}
            return ["module", kind, *map(self.read, (list(value._modules.items()), weights, plain, hooks))]
        if isinstance(value, Tensor):
            return [kind, value.requires_grad, tensors_digest({"": value})]
        if hasattr(value, "__array__"):
            array = value.__array__()
            held = array.tolist() if array.dtype.hasobject else hashlib.sha256(array.tobytes()).hexdigest()
            return [kind, str(array.dtype), list(array.shape), self.read(held)]
        kinds = type(value).__mro__
        members = {n for k in kinds for n, v in vars(k).items() if isinstance(v, MemberDescriptorType)}
        if members or hasattr(value, "__dict__"):
            state = {n: getattr(value, n) for n in members if hasattr(value, n)} | getattr(value, "__dict__", {})
            return ["instance", kind, _name(value), self.read({n: v for n, v in state.items() if n not in _NOT_CODE})]
        text = repr(value)
        return [kind, _name(value), "" if "0x" in text or hasattr(value, "__next__") else text]


def _name(value: Any) -> str:
    thing = value if isinstance(value, (type, FunctionType, BuiltinMethodType)) else type(value)
    return f"{thing.__module__}.{thing.__qualname__}"


def _own(name: str) -> bool:
    """Whether a module is the user's own: no part of Python, of ticketlab, or of an installed package."""
    root = str(name).split(".")[0]
    files = [getattr(sys.modules.get(module), "__file__", None) for module in (str(name), root)]
    if root not in sys.modules:
        with contextlib.suppress(ImportError, ValueError):
            files.append(getattr(importlib.util.find_spec(root), "origin", None))
    file = next(filter(None, files), None)
    return root not in sys.stdlib_module_names if file is None else _own_file(file)


@functools.cache
def _own_file(file: str) -> bool:
    import torch

    # What torch and ticketlab do is pinned by the numerics of a study and the revisions of its steps.
    packages = [torch.__file__, os.path.dirname(__file__)]
    homes = [*map(sysconfig.get_path, ("stdlib", "platstdlib")), *(os.path.dirname(f) for f in packages)]
    path = Path(os.path.realpath(file))
    return {"site-packages", "dist-packages"}.isdisjoint(path.parts) and not any(
        path.is_relative_to(os.path.realpath(home)) for home in homes
    )


def _codes(code: CodeType) -> list[CodeType]:
    """The code of a function and of those inside it."""
    return [code, *(inner for c in code.co_consts if isinstance(c, CodeType) for inner in _codes(c))]


def _used(function: FunctionType) -> tuple[set[str], set[str]]:
    """The globals that a function reads (what it also writes is its state, no constant), and its own imports."""
    read: set[str] = set()
    written, imported = read.copy(), read.copy()
    for code in _codes(function.__code__):
        steps = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
        for at, step in enumerate(steps):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
                (written if step.opname == "STORE_GLOBAL" else read).add(str(step.argval))
            elif step.opname == "IMPORT_NAME":
                name = "." * int(steps[at - 2].argval) + str(step.argval)
                imported.add(importlib.util.resolve_name(name, function.__globals__.get("__package__") or ""))
    return {n for n in read - written if n in function.__globals__} - _NOT_CODE, set(filter(_own, imported))
