"""Squared columns of a Jacobian: for each weight, how far it moves the outputs of all examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vjp, vmap

from ticketlab.scoring import Batch, Scoring

Tensors = dict[str, Tensor]
# (inputs, targets, outputs) -> for each example, the directions in output space that count (examples, columns, outputs)
Directions = Callable[[Tensor, Tensor, Tensor], Tensor]
_BYTES = 256 * 2**20


@torch.no_grad()
def squared_columns(scoring: Scoring, batches: Sequence[Batch], directions: Directions) -> Tensors:
    """``sum_n sum_s (s . df(x_n)/dw_i)^2`` over examples ``n`` and their directions ``s``, exactly.

    Every example is differentiated on its own, so they must not affect each other (eval mode).
    """
    own = {id(p): name for name, p in scoring.model.named_parameters()}
    names = {own[id(w)]: name for name, w in scoring.weights.items()}
    weights = {key: scoring.weights[name].detach() for key, name in names.items()}
    total = zeros_of(scoring)

    def squares(x: Tensor, columns: Tensor) -> Tensors:
        """For one example, summed over the columns. Without a graph of the gradients: nothing differentiates them."""
        # A copy of the input: a transform refuses a model that writes into it, as an in-place ReLU does.
        pull = vjp(lambda given: functional_call(scoring.model, given, (x[None].clone(),)).flatten(), weights)[1]
        found: Tensors = {}
        for column in columns.unbind():
            for key, grad in pull(column)[0].items():
                grad = grad.to(total[names[key]].dtype)
                found[key] = torch.addcmul(found[key], grad, grad) if key in found else grad**2
        return found

    # The gradients of so many examples are held at once, three times: one column's, the old sum and the new.
    size = max(1, _BYTES // (3 * sum(w.nbytes for w in total.values())))
    for inputs, targets in batches:
        factors = directions(inputs, targets, scoring.model(inputs))
        if factors.shape[1]:
            for x, columns in zip(inputs.split(size), factors.split(size), strict=True):
                for key, value in _summed(squares, x, columns).items():
                    total[names[key]] += value
    return total


def zeros_of(scoring: Scoring) -> Tensors:
    """Sums for every weight, in at least float32: squares of half-precision gradients would vanish."""
    return {
        n: torch.zeros_like(w, dtype=torch.promote_types(w.dtype, torch.float32)) for n, w in scoring.weights.items()
    }


def _summed(squares: Callable[[Tensor, Tensor], Tensors], inputs: Tensor, columns: Tensor) -> Tensors:
    """The sum over examples, all at once if the model allows that."""
    try:
        return {key: value.sum(0) for key, value in vmap(squares, randomness="different")(inputs, columns).items()}
    except RuntimeError:
        # The model has already run on this batch: what fails is vmap, as where the code asks for a tensor's value.
        each = [squares(x, s) for x, s in zip(inputs, columns, strict=True)]
        return {key: torch.stack([found[key] for found in each]).sum(0) for key in each[0]}
