"""Provenance: which code made a result, and on what kind of machine. No names of hosts or users, and no paths."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from ticketlab import __version__
from ticketlab.processor import processor

_PATIENCE = 10.0  # seconds for git to answer
_DESCRIBE = ["describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+changes"]


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Where results of this process come from, in plain values; looked up once a process.

    Returns:
        ``commit`` (of the git checkout that the package runs from, "+changes" after it if tracked files differ; None
        outside of one, or if git cannot say), ``ticketlab``, ``torch``, ``python``, ``machine`` (the processor),
        ``gpu`` (on "cuda" only), ``cores`` and ``system``.
    """
    return dict(_provenance(device))


@functools.cache
def _provenance(device: str) -> dict[str, Any]:
    gpu = {"gpu": str(torch.cuda.get_device_name(device))} if torch.device(device).type == "cuda" else {}
    return {
        "commit": commit(Path(__file__).resolve().parents[2]),
        "ticketlab": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": processor(),
        **gpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit(checkout: Path) -> str | None:
    """The commit that a folder is at, "+changes" after it if tracked files differ; None if git cannot say.

    The folder must be the checkout itself: an installed package often lies somewhere inside of another project's.
    """
    if not (checkout / ".git").exists():
        return None
    # Inside of a hook, git's own variables point to another repository; and nothing here may be locked by a question.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # In a container the checkout is often another user's. Its code runs already, so its git may be asked.
    asked = ["git", "-c", "safe.directory=*", *_DESCRIBE]
    try:
        told = subprocess.run(
            asked,
            cwd=checkout,
            env={**clean, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None
