"""The pages as a site: built strictly, searchable, and without a request to anybody else."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """What `./run sphinx-build -W --keep-going docs build/site` does, with no cache."""
    words = ["sphinx.cmd.build", "-q", "-W", "--keep-going", "-E", "-d", str(target / ".cache")]
    return subprocess.run(
        [sys.executable, "-m", *words, str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = build(DOCS, target)
    assert done.returncode == 0, done.stderr
    return target


class Requests(HTMLParser):
    """What a browser fetches without being asked: all but where links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag != "a":
            self.found += [values[key] or "" for key in ("src", "href") if key in values]


def test_every_page_is_there(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        assert (site / page.relative_to(DOCS).with_suffix(".html")).is_file(), page


def test_no_other_host_is_asked_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Requests()
        parser.feed(page.read_text())
        assert parser.found
        foreign = [url for url in parser.found if re.match(r"(\w+:)?//", url)]
        assert not foreign, f"{page}: {foreign}"
    for style in site.rglob("*.css"):
        text = style.read_text()
        assert not re.search(r"(url\(\s*['\"]?|@import\s+['\"]?)(\w+:)?//", text), style


def test_what_is_looked_for_is_found(site: Path) -> None:
    index = (site / "searchindex.js").read_text()
    for word in ("externalip", "snapshot", "corridor"):
        assert word in index
    assert "searchindex.js" in (site / "search.html").read_text()


@pytest.mark.parametrize(
    "wrong", ["[gone](howto/gone.md)", "[gone](howto/settings.md#gone)", "![gone](gone.svg)"]
)
def test_what_leads_nowhere_fails_the_build(tmp_path: Path, wrong: str) -> None:
    source = tmp_path / "docs"
    (source / "howto").mkdir(parents=True)
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    (source / "howto" / "settings.md").write_text("# Settings\n")
    index = "# Index\n\n```{toctree}\nhowto/settings\n```\n\n"
    (source / "index.md").write_text(index)
    assert build(source, tmp_path / "good").returncode == 0
    (source / "index.md").write_text(f"{index}{wrong}\n")
    done = build(source, tmp_path / "bad")
    assert done.returncode != 0
    assert "gone" in done.stderr
