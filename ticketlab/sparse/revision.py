"""What decides the kernels' last bits beside the instruction set: two libraries of one revision compute alike."""

from __future__ import annotations

import hashlib
import os
import shlex

from ticketlab.sparse.compiling import FLAGS, SOURCES, source_files


def revision() -> str:
    """A hash of the sources and of the flags they are compiled with, those of TICKETLAB_CXXFLAGS too.

    The compiler is left out: without joined products and reordered sums, which the flags forbid, every one of them
    must compute what the source says.
    """
    flags = [*FLAGS, *shlex.split(os.environ.get("TICKETLAB_CXXFLAGS", ""))]
    facts = [flags, [(file.name, file.read_bytes()) for file in source_files(SOURCES)]]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
