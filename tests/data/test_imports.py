"""Names are at hand without torch; the data package without the libraries that only some data need."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("ticketlab.data.names", "torch numpy"),
        ("ticketlab.models.registry", "torch numpy"),
        ("ticketlab.data.load", "sklearn pyarrow PIL pooch safetensors.torch"),
    ],
)
def test_imports_little(module: str, without: str) -> None:
    program = f"import sys, {module}; print(*(m for m in {without.split()} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
