"""The study: everything that decides its results, written down before it starts and kept when it grows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError
from ticketlab.experiment.conditions import Conditions
from ticketlab.packing import write_atomically

# A comparison of a study: the method, the check, and the fraction removed.
Compared = tuple[str, str, float]

FORMAT = 1
# Beyond any study, so that a damaged number is not planned for hours.
MOST_SEEDS = 100_000
FILE = "study.json"
_NOT_OTHER = {"store", "store.txt"}
# What a study keeps for life, with the words for it in messages.
FIXED = ("data", "model", "recipe", "numerics", "scoring", "statistics")


@dataclass(frozen=True)
class Study(Conditions):
    """A study's spec: the conditions of its trainings, and what is asked of them. All values are plain.

    Attributes:
        statistics: alpha, margin (as asked: "0.5", "2%" or None), looks, weights, multiplicity, family, test; and
            ``until_decided``, if seeds are added to the undecided comparisons only.
        methods, checks: specs, in the order of the report.
        sparsities: fractions removed.
        seeds: how many; they are 0, 1, ...; until decided, the most that a comparison can have.
        command: how it was started and grown, one command a line; no part of its identity, nor are the next two.
        commands: the same, one entry a command, in order, each text once.
        created: when it was started.
    """

    statistics: dict[str, Any]
    methods: tuple[str, ...]
    checks: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: int
    command: str = field(default="", compare=False)
    created: str = field(default="", compare=False)
    commands: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        commands = self.commands or ((self.command,) if self.command else ())
        object.__setattr__(self, "commands", commands)
        object.__setattr__(self, "command", "\n".join(commands))

    @property
    def title(self) -> str:
        """What is studied, in a line."""
        return f"{', '.join(self.methods)} on {self.data['name']} / {self.model['name']}"

    @property
    def until_decided(self) -> bool:
        """Whether seeds are added to the undecided comparisons only, look by look."""
        return bool(self.statistics.get("until_decided", False))

    def grown(self, new: Study) -> Study:
        """This study with the new one's methods, checks, sparsities and seeds added.

        Raises:
            InputError: the new one differs in what a study keeps; the message names every difference.
        """
        differences = {
            f"{part} {key}": f"the study has {mine.get(key)!r}, asked for {theirs.get(key)!r}"
            for part in FIXED
            for mine, theirs in [(getattr(self, part), getattr(new, part))]
            for key in {**mine, **theirs}
            if mine.get(key) != theirs.get(key)
        }
        if differences:
            edited = "model identity" in differences and "model name" not in differences
            # Hashes and long tables say nothing to a reader: words do, and the counts that go with them.
            for cryptic in ("model identity", "model layers"):
                if edited or len(differences) > 1:
                    differences.pop(cryptic, None)
            hashes = {key: differences.pop(key) for key in ("data fingerprint",) if key in differences}
            lines = [f"{key}: {what}" for key, what in {**differences, **hashes}.items()]
            use = "Use another --out, or the study's own settings."
            if edited:
                what = "code" if self.model.get("drawn") else "code or the weights"
                lines.insert(0, f"the {what} of model {self.model.get('name')!r} changed since the study began")
                use = "Use another --out for the changed model, or undo the change to go on with this study."
            shown = "\n  ".join(lines[:6])
            raise InputError(
                "the folder holds another study, which may grow in methods, checks, sparsities and seeds only:\n"
                f"  {shown}\n{use}"
            )
        return replace(
            self,
            methods=_union(self.methods, new.methods),
            checks=_union(self.checks, new.checks),
            sparsities=tuple(sorted({*self.sparsities, *new.sparsities})),
            seeds=max(self.seeds, new.seeds),
            commands=_union(self.commands, new.commands),
        )

    def save(self, folder: Path) -> None:
        """Write ``study.json``."""
        value = {"format": FORMAT, **asdict(self)}
        del value["command"]
        write_atomically(folder / FILE, json.dumps(value, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read ``study.json``.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        path = folder / FILE
        if not path.is_file():
            raise InputError(f"asked for the study in {folder}, got a folder without {FILE}: nothing to show.")
        try:
            value = json.loads(path.read_text())
            if value.pop("format") != FORMAT:
                raise ValueError("another format")
            _check_types(value)
            for name in ("methods", "checks", "sparsities", "commands"):
                value[name] = tuple(value.get(name, ()))
            study = cls(**value)
            if not isinstance(study.training, Recipe):
                raise TypeError("the recipe is damaged")
            return study
        except KeyError as error:
            raise InputError(f"asked for the study in {path}, got a file that cannot be read: no {error}.") from error
        except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise InputError(f"asked for the study in {path}, got a file that cannot be read: {error}.") from error


# What the parts of a study hold that is read again; other entries are for people.
_NUMBER = (int, float)
_TYPES: dict[str, Any] = {
    "data": {"name": str, "classes": int, "in_shape": [int], "train": int, "test": int, "chance": _NUMBER}
    | {"fingerprint": str},
    "model": {"name": str, "identity": str, "drawn": bool, "prunable": int, "layers": dict},
    "recipe": {"drops": [_NUMBER]},
    "numerics": {"device": str, "threads_per_ticket": int, "engine": str, "precision": str},
    "scoring": {"per_class": int},
    "statistics": {"alpha": _NUMBER, "margin": (str, type(None)), "looks": [int], "weights": [_NUMBER]}
    | {"multiplicity": str, "family": str, "test": str},
    "methods": [str],
    "checks": [str],
    "sparsities": [_NUMBER],
    "seeds": int,
}
_OPTIONAL = {"command": str, "created": str, "commands": [str]}


def _check_types(value: Any) -> None:
    for name, kind in {**_TYPES, **{k: v for k, v in _OPTIONAL.items() if k in value}}.items():
        if not isinstance(kind, dict):
            _check_type(name, value[name], kind)
            continue
        _check_type(name, value[name], dict)
        for key, inner in kind.items():
            _check_type(f"{name} {key}", value[name][key], inner)
    _check_type("statistics until_decided", value["statistics"].get("until_decided", False), bool)
    if not 1 <= value["seeds"] <= MOST_SEEDS:
        raise ValueError(f"seeds is {value['seeds']}")
    if not all(0 <= sparsity < 1 for sparsity in value["sparsities"]):
        raise ValueError(f"sparsities are {value['sparsities']}")
    for layer, count in value["model"]["layers"].items():
        _check_type(f"model layers {layer}", count, int)


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Raise unless a value is of a type (or one of several), or a list of such values; a bool is no number."""
    if isinstance(kind, list):
        _check_type(name, value, list)
        for entry in value:
            _check_type(f"an entry of {name}", entry, kind[0])
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is {str(value)[:40]!r}, of the wrong type")


def forget(folder: Path) -> None:
    """Take a study's spec away; finished steps stay, for whoever needs the same ones."""
    (folder / FILE).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether a folder holds a study.

    Raises:
        InputError: it holds other things, among which a study should not be put.
    """
    if (folder / FILE).is_file():
        return True
    if folder.exists() and (not folder.is_dir() or any(entry.name not in _NOT_OTHER for entry in folder.iterdir())):
        raise InputError(f"asked for --out {folder}, got something that is no study and not empty. Use another folder.")
    return False


def _union(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))
