"""What a check is, what its control gets to see, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ticketlab.methods import Method
from ticketlab.program import Edit, Program, Ticket

Fact = float | int | bool | str


@dataclass(frozen=True)
class Control:
    """A check's proof of itself: whether it changed what it says and nothing else, and the facts."""

    passed: bool
    facts: Mapping[str, Fact]
    summary: str


@dataclass(frozen=True)
class Evidence:
    """What a control reads.

    Attributes:
        original, tampered: both tickets as their last training starts.
        data_facts: what tampering with the data changed, measured on the data.
        read_other_data: whether the stages that find the tickets were given different data, by the hash of what they
            read; None if they read none.
        keeps_weights: the tickets start from weights that these stages trained.
    """

    original: Ticket
    tampered: Ticket
    data_facts: Mapping[str, Fact] = field(default_factory=dict)
    read_other_data: bool | None = None
    keeps_weights: bool = False


@dataclass(frozen=True)
class Check:
    """A sanity check.

    Attributes:
        edit: what it does to the program.
        belief: what holds if the method passes.
        phrase: what was done, in words.
        applies: why the check says nothing about a method with this program, or None if it does.
        control: the proof, for one seed.
        versus: the other method's spec, for the checks that compare with a method instead of tampering.
    """

    name: str
    edit: Edit
    belief: str
    phrase: str
    paper: str
    control: Callable[[Evidence], Control]
    applies: Callable[[Method, Program], str | None] = lambda method, program: None
    versus: str | None = None
    revision: int = 1
