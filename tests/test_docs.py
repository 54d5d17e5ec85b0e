"""The documentation's Python blocks run, in order, in one namespace per page; its tables name what exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import ticketlab
from ticketlab.methods import METHODS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def registry():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, registry, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": f"docs_{page.stem}"}
    for number, block in enumerate(_BLOCK.findall(page.read_text())):
        # As a file, so that the source of functions defined in it can be found, as in a user's own module.
        path = tmp_path / f"{page.stem}_{number}.py"
        path.write_text(block)
        exec(compile(block, str(path), "exec"), namespace)


def test_shown_score_is_a_method(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "your-own-method.md").read_text()
    (tmp_path / "scores_of_the_docs.py").write_text(_BLOCK.findall(page)[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    import torch

    model = torch.nn.Linear(20, 10)
    batch = (torch.randn(8, 20), torch.randint(10, (8,)))
    masks = [
        ticketlab.prune(model, f"scores_of_the_docs:my_score{option}", 0.5, data=[batch])
        for option in ("", ",power=2", ",power=0.5")
    ]
    assert all(mask.kept == 100 for mask in masks)
    assert masks[0] == masks[1] == masks[2], "a power changes no order"


def test_nothing_leads_out_of_the_repository():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
