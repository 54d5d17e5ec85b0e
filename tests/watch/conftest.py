"""One study of the tiny net that ran to its end, for all tests of the looking."""

from __future__ import annotations

import pytest
import tiny

from ticketlab.experiment.prepared import Prepared


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    found = tiny.prepared(tmp_path_factory.mktemp("watched") / "s", ["magnitude"], checks=["rearrange"])
    found.run()
    return found
