"""The network that a ticket file belongs to, with the ticket's weights in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ticketlab import seeding
from ticketlab.errors import InputError
from ticketlab.export.dense import state_dict
from ticketlab.models.registry import MODELS, build
from ticketlab.ticket_file import TicketFile


@dataclass(frozen=True)
class Network:
    """A model in eval mode with a ticket's weights, pruned ones zero; ``in_shape`` is without the batch."""

    name: str
    model: nn.Module
    in_shape: tuple[int, ...]
    classes: int


def network_of(file: TicketFile, model: str | None = None) -> Network:
    """The ticket's network, built anew.

    Args:
        model: a name or ``package:factory``; if not given, what the ticket's facts name, where that is a registered
            model. Code of someone's own is imported only when it is asked for here: a file cannot ask for it.

    Raises:
        InputError: the facts do not say which model or which data, or the weights are not such a model's.
    """
    name = model or _said(file.facts, "model", "name", str)
    if model is None and name not in MODELS:
        raise InputError(
            f"asked for the network of a ticket, got one that says {name!r}, which is no registered model: give it "
            "yourself (--model package:factory) if you trust its code."
        )
    classes, shape = _said(file.facts, "data", "classes", int), _said(file.facts, "data", "in_shape", list)
    if not all(type(n) is int and 0 < n < 2**16 for n in (classes, *shape)):
        raise InputError(f"asked for the network of a ticket, got inputs of {shape} and {classes} classes.")
    with seeding.isolated(0, "shape"):
        built = build(name, classes, tuple(shape))
    weights = state_dict(file.ticket)
    asked = f"asked to put a ticket into {name!r}, got"
    mine = built.state_dict()
    if set(mine) != set(weights):
        odd = sorted(set(mine) ^ set(weights))[:3]
        raise InputError(f"{asked} weights of another model: only one of them has {', '.join(odd)}.")
    for key, value in mine.items():
        if value.shape != weights[key].shape:
            raise InputError(
                f"{asked} {key!r} of shape {tuple(weights[key].shape)}; the model's is {tuple(value.shape)}."
            )
    file.ticket.mask.match(built)
    built.load_state_dict(weights)
    return Network(name, built.eval(), tuple(shape), classes)


def _said(facts: dict[str, Any], group: str, key: str, kind: type) -> Any:
    inner = facts.get(group)
    found = inner.get(key) if isinstance(inner, dict) else None
    if not isinstance(found, kind):
        raise InputError(
            f"asked for the network of a ticket, got facts without {group}.{key}: ticketlab train writes them."
        )
    return found
