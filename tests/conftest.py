"""What every test runs under: one thread, as workers do, so that several tests run side by side."""

import torch

torch.set_num_threads(1)
