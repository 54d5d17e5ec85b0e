"""GraSP: keep the weights that carry the gradient flow (Wang, Zhang & Grosse, ICLR 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ticketlab.scoring import Batch, Loss, Scoring


def grasp(scoring: Scoring, temperature: float = 200.0, redraw_classifier: bool = True) -> dict[str, Tensor]:
    """``w * (H g)``; the authors remove the highest ``-w * (H g)``, which is the same order (their eq. 8).

    ``g`` is the gradient summed over all batches, ``H g`` comes from a second backward pass over each. The loss
    sees the logits divided by ``temperature``: at 200 it is almost linear in them, so 1 is another method, not
    another scale. With ``redraw_classifier`` every linear layer of the scoring copy is drawn anew (Xavier
    normal), as the authors' code does: its scores then belong to other weights than those that are trained.
    Their code passes the two halves of a class-ordered sample as two batches, and keeps one weight more at the
    threshold; here the number kept is exact.
    """
    if redraw_classifier:
        for module in scoring.model.modules():
            if isinstance(module, nn.Linear):
                # Drawn on the CPU, as the generator is: a GPU gets the same weights.
                drawn = nn.init.xavier_normal_(torch.empty_like(module.weight, device="cpu"), 1, scoring.generator)
                with torch.no_grad():
                    module.weight.copy_(drawn)
        scoring.zero_removed()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return scoring.loss(outputs / temperature, targets)

    batches = scoring.require_batches()
    total = {name: torch.zeros_like(w) for name, w in scoring.weights.items()}
    product = {name: torch.zeros_like(w) for name, w in scoring.weights.items()}
    # Only the plain form of attention has a second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        for batch in batches:
            for name, grad in scoring.gradient(batch, loss).items():
                total[name] += grad
        for batch in batches:
            _add_product(scoring, batch, loss, total, product)
    return {name: w.detach() * product[name] for name, w in scoring.weights.items()}


def _add_product(
    scoring: Scoring, batch: Batch, loss: Loss, total: dict[str, Tensor], product: dict[str, Tensor]
) -> None:
    """Add the batch's share of ``H g``, the gradient of ``g . total`` with ``total`` held fixed."""
    grads = scoring.gradient(batch, loss, create_graph=True)
    flow = torch.stack([(total[n] * g).sum() for n, g in grads.items()]).sum()
    second = torch.autograd.grad(flow, list(scoring.weights.values()), allow_unused=True)
    for name, value in zip(scoring.weights, second, strict=True):
        if value is not None:
            product[name] += value
