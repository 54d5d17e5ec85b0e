"""The engines by name. Imports nothing: lists must answer at once."""

from __future__ import annotations

# Name -> what it is, for `ticketlab list engines` and `ticketlab bench`. ":K" is how many tickets train side by side.
ENGINES = {
    "plain": "one ticket at a time, eager, as the papers' code does",
    "tuned": "one ticket at a time, channels_last, fused optimizer",
    "tuned+im2col": "the same, with maps of 4x4 and below as matrix products",
    "compiled": "as tuned, forward and backward pass compiled",
    "compiled+im2col": "as tuned+im2col, forward and backward pass compiled",
    "sparse": "one ticket at a time on native kernels, at the cost of what it keeps (CPU, fp32)",
    "stacked:K": "K tickets as one stack of parameters, the whole step compiled",
    "graph:K": "K tickets on a GPU side by side, each step one CUDA graph",
}
