"""The page needs nothing else, says everything, trusts no label, and runs without script errors."""

from __future__ import annotations

import copy
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ticketlab.report import html as page_html

from . import sample

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "<script>alert(1)</script>&\"'</style></pre>--><b>"
DOCUMENTS = {
    "nothing": {},
    "empty": sample.empty(),
    "partial": sample.partial(),
    "full": sample.results(),
    "one sparsity, 34 layers": sample.results(sparsities=(0.95,), layers=sample.DEEP),
}


@pytest.mark.parametrize("results", DOCUMENTS.values(), ids=DOCUMENTS)
def test_nothing_outside_is_referred_to(results: dict[str, Any]) -> None:
    page = page_html.page(results)
    assert "http" not in page and "@import" not in page
    assert not re.search(r"\ssrc\s*=|url\((?!data:|#)|<link|<iframe|<object|<form", page)
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    assert not re.search(r"\b(nan|NaN|inf|None|undefined)\b", page[: page.index('id="document"')])


@pytest.mark.parametrize("results", DOCUMENTS.values(), ids=DOCUMENTS)
def test_well_formed_with_unique_ids_and_live_anchors(results: dict[str, Any]) -> None:
    page = page_html.page(results)
    check = Nesting()
    check.feed(page)
    assert check.open == ["html"] or not check.open
    assert len(check.ids) == len(set(check.ids))
    assert {target[1:] for target in re.findall(r'href="([^"]*)"', page)} <= set(check.ids)


class Nesting(html.parser.HTMLParser):
    """Checks that elements close in order; table cells and rows may be left open."""

    EMPTY = frozenset(("meta", "input", "br"))
    IMPLIED = frozenset(("td", "tr", "th"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] != tag and self.open[-1] in self.IMPLIED:
            self.open.pop()
        assert self.open and self.open.pop() == tag, f"{tag} closed out of order"


def test_deterministic_and_input_left_alone(tmp_path: Path) -> None:
    results = sample.results()
    before = copy.deepcopy(results)
    page_html.write(results, tmp_path / "one.html")
    page_html.write(sample.results(), tmp_path / "two.html")
    assert results == before
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_ten_seeds_stay_small() -> None:
    assert len(page_html.page(sample.results(seeds=10)).encode()) < 500_000


def test_everything_is_said() -> None:
    results = sample.results()
    page = re.sub(r"&#39;|&#x27;", "'", page_html.page(results))
    for row in results["verdicts"]:
        assert row["sentence"] in page
    assert page.count('class="row-plot') == len(results["verdicts"])
    assert page.count('class="panel"') == len(results["methods"])
    assert page.count('class="layers"') == len(results["sparsities"])
    table = page[page.index('id="run-table"') :]
    assert table[: table.index("</table>")].count("<tr") == len(results["runs"]) + 1
    for said in (results["command"], results["answer"], "best epoch, not used", "9f2c17a4", "FAILED", "off axis"):
        assert said in page


def evil() -> dict[str, Any]:
    """The sample with hostile text in every place that a user can name."""
    text = json.dumps(sample.results())
    for name in ("scores:my_score", "rearrange", "conv1", "five methods on digits / conv", "Lee et al. 2019"):
        text = text.replace(f'"{name}"', json.dumps(EVIL + name))
    results: dict[str, Any] = json.loads(text)
    return results | {"answer": EVIL, "command": EVIL}


def test_labels_are_escaped() -> None:
    page = page_html.page(evil())
    assert page.count("<script") == page_html.page(sample.results()).count("<script") == 2
    assert "alert(1)</script>" not in page and "<b>rearrange" not in page and "--><b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_full_document_can_be_read_back() -> None:
    results = evil()
    page = page_html.page(results)
    text = page[page.index('id="document">') + len('id="document">') :]
    assert json.loads(html.unescape(text[: text.index("</pre>")])) == results


def dom(page: Path, folder: Path) -> str:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={folder}", "--dump-dom"]
    command = [str(BROWSER), *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_the_script_runs_in_a_browser(tmp_path: Path) -> None:
    page = tmp_path / "evil.html"
    page_html.write(evil(), page)
    # drive it: sort the runs by accuracy twice, filter for a method
    drive = """<script>
      var table = document.getElementById("run-table"), button = table.querySelectorAll("thead button")[3];
      button.click(); button.click();
      var filter = document.getElementById("filter");
      filter.value = "grasp dead"; filter.dispatchEvent(new Event("input"));
      document.documentElement.setAttribute("data-first", table.tBodies[0].rows[0].cells[3].textContent.trim());
    </script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", drive), encoding="utf-8")
    found = dom(page, tmp_path / "profile")
    head = found[: found.index("<head>")]
    assert "data-script-error" not in head
    assert 'data-ready="yes"' in head
    best = max(run["accuracy"] for run in sample.results()["runs"])
    assert f'data-first="{best:.2f}"' in head
    dead = sum(run["status"] == "dead" and run["method"].startswith("grasp") for run in sample.results()["runs"])
    assert f"{dead} shown" in found


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_a_script_error_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    text = page_html.page({}).replace("</body>", "<script>nowhere.to.go();</script></body>")
    page.write_text(text, encoding="utf-8")
    assert "data-script-error" in dom(page, tmp_path / "profile")
