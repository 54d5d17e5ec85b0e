"""The digits inside scikit-learn: real, tiny, always there."""

from __future__ import annotations

import numpy as np
import torch

from ticketlab.data.types import Split


def digits() -> tuple[Split, Split]:
    """1,437 training and 360 test images, uint8 (N, 1, 8, 8), by a fixed stratified split.

    The stored values 0..16 become round(255 v / 16), from which v is exactly recoverable. The test set is
    every fifth example after sorting by class, so class shares in the two sets agree to within one example.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(np.rint(images * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    everything = Split(pixels, torch.from_numpy(labels.astype(np.int64)))
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    held_out[everything.targets.argsort(stable=True)[::5]] = True
    return everything.take(~held_out), everything.take(held_out)
