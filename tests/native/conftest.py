"""Where there is no compiler there are no kernels to test."""

from __future__ import annotations

import pytest

from ticketlab.sparse import missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/native" in item.path.as_posix()]
    why = missing() if here else None
    for item in here:
        if why and "compiler" in why and item.path.name != "test_build.py":
            item.add_marker(pytest.mark.skip(reason=why))
