"""What every test runs under: one thread, as workers do, so that several tests run side by side."""

import os

import torch

# Tests write thousands of small files; none of them must survive a loss of power.
os.fsync = lambda descriptor: None

torch.set_num_threads(1)
