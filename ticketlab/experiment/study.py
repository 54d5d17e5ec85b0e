"""The study: everything that decides its results, written down before it starts and kept when it grows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ticketlab.engine.recipe import Recipe
from ticketlab.errors import InputError
from ticketlab.packing import write_atomically

FORMAT = 1
_FILE = "study.json"
# What a study keeps for life, with the words for it in messages.
FIXED = ("data", "model", "recipe", "numerics", "scoring", "statistics")


@dataclass(frozen=True)
class Study:
    """A study's spec. All values are plain.

    Attributes:
        data: name, folder, limits, counts, classes, in_shape, chance, fingerprint.
        model: name, identity, number of weights.
        recipe: the training recipe.
        numerics: device, precision, threads per ticket, torch version, instruction set.
        scoring: how the batch for scores is drawn (``per_class``).
        statistics: alpha, margin (as asked: "0.5", "2%" or None), looks, weights, multiplicity, family, test.
        methods, checks: specs, in the order of the report.
        sparsities: fractions removed.
        seeds: how many; they are 0, 1, ...
        command, created: how and when it was started; no part of its identity.
    """

    data: dict[str, Any]
    model: dict[str, Any]
    recipe: dict[str, Any]
    numerics: dict[str, Any]
    scoring: dict[str, Any]
    statistics: dict[str, Any]
    methods: tuple[str, ...]
    checks: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: int
    command: str = field(default="", compare=False)
    created: str = field(default="", compare=False)

    @property
    def training(self) -> Recipe:
        """The recipe as an object."""
        return Recipe(**{**self.recipe, "drops": tuple(self.recipe["drops"])})

    def grown(self, new: Study) -> Study:
        """This study with the new one's methods, checks, sparsities and seeds added.

        Raises:
            InputError: the new one differs in what a study keeps; the message names every difference.
        """
        differences = [
            f"{part} {key}: the study has {mine.get(key)!r}, asked for {theirs.get(key)!r}"
            for part in FIXED
            for mine, theirs in [(getattr(self, part), getattr(new, part))]
            for key in {**mine, **theirs}
            if mine.get(key) != theirs.get(key)
        ]
        if differences:
            shown = "\n  ".join(differences[:6])
            raise InputError(
                "the folder holds another study, which may grow in methods, checks, sparsities and seeds only:\n"
                f"  {shown}\nUse another --out, or the study's own settings."
            )
        return replace(
            self,
            methods=_union(self.methods, new.methods),
            checks=_union(self.checks, new.checks),
            sparsities=tuple(sorted({*self.sparsities, *new.sparsities})),
            seeds=max(self.seeds, new.seeds),
            command=new.command,
        )

    def save(self, folder: Path) -> None:
        """Write ``study.json``."""
        write_atomically(folder / _FILE, json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Read ``study.json``.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        path = folder / _FILE
        if not path.is_file():
            raise InputError(f"asked for the study in {folder}, got a folder without {_FILE}: nothing to show.")
        try:
            value = json.loads(path.read_text())
            if value.pop("format") != FORMAT:
                raise ValueError("another format")
            for name in ("methods", "checks", "sparsities"):
                value[name] = tuple(value[name])
            return cls(**value)
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise InputError(f"asked for the study in {path}, got a file that cannot be read: {error}.") from error


def exists(folder: Path) -> bool:
    """Whether a folder holds a study.

    Raises:
        InputError: it holds other things, among which a study should not be put.
    """
    if (folder / _FILE).is_file():
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"asked for --out {folder}, got something that is no study and not empty. Use another folder.")
    return False


def _union(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*old, *new)))
