"""The blocks of commands in docs/, CONTRIBUTING.md and every README.md, and how each is tested.

The words behind a block's language say it (GitHub and the site show the language alone):

```console                        run by tests/test_doc_blocks.py in a directory of its own, no VMs
```console cluster                run by tests/cluster/test_pages.py on a cluster that runs
```console test=FILE.py::NAME     that test does the same; several are separated by commas
```console why="REASON"           cannot be run where the project is tested
```ini file=PATH                  (any language) is written to that file before what follows runs
"""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from tests.suite.sources import ROOT, source_of

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^`\n]+)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S
)
_INDENTED = re.compile(r"^(?:\s*\n|\A)(?: {4}|\t)[^\n]*\S", re.M)
_BOOTS = frozenset({"up", "apply", "scale", "watch"})
_SHELLS = frozenset({"console", "sh", "bash", "shell"})


@frozen(kw_only=True)
class Block:
    """A fenced block: ``words`` are those behind its language, ``line`` where it begins."""

    document: str
    line: int
    language: str
    words: tuple[str, ...]
    body: str

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> tuple[str, ...]:
        """Command lines, without the prompt; only of blocks in a shell's language."""
        if self.language not in _SHELLS or self.file:
            return ()
        return tuple(line.removeprefix("$ ") for line in self.body.splitlines() if line.strip())

    @property
    def on_cluster(self) -> bool:
        """Whether it needs one that runs."""
        return "cluster" in self.words

    @property
    def is_run(self) -> bool:
        """Whether its commands are run as they stand, with or without a cluster."""
        return bool(self.commands) and not (self.tests or self.why)

    @property
    def tests(self) -> tuple[str, ...]:
        """Tests that do the same."""
        return tuple(name for name in (self.value("test") or "").split(",") if name)

    @property
    def why(self) -> str | None:
        """Why it is not run."""
        return self.value("why")

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        return self.value("file")

    def value(self, key: str) -> str | None:
        """What follows ``key=`` in its words."""
        for word in self.words:
            if word.startswith(f"{key}="):
                return word.partition("=")[2]
        return None


def blocks_of(text: str, document: str) -> tuple[Block, ...]:
    """The blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(text):
        language, *words = shlex.split(match["info"])
        found.append(
            Block(
                document=document,
                line=text.count("\n", 0, match.start()) + 1,
                language=language,
                words=tuple(words),
                body=match["body"],
            )
        )
    return tuple(found)


def documents() -> tuple[str, ...]:
    """Paths below the root."""
    top = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "core" / "README.md"]
    readmes = [*top, *sorted(ROOT.glob("plugins/*/README.md"))]
    pages = [*readmes, *sorted((ROOT / "docs").rglob("*.md"))]
    return tuple(str(path.relative_to(ROOT)) for path in pages)


def blocks(document: str) -> tuple[Block, ...]:
    """Those of one of `documents`."""
    return blocks_of((ROOT / document).read_text(), document)


def unmarked(text: str, document: str) -> Iterator[str]:
    """Blocks of code that are only indented: they have no words that could say how to test them."""
    rest = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    for match in _INDENTED.finditer(rest):
        line = rest.count("\n", 0, match.end()) + 1
        yield f"{document}:{line}: write an indented block between ``` and ```, marked"


def problems(block: Block, known: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with how a block is marked; ``known``: source by ``FILE.py::NAME`` of all
    tests.
    """
    if block.language.startswith("{"):
        return  # a directive of Sphinx, with words of its own
    allowed = {"cluster", "test", "why", "file"}
    for word in block.words:
        if word.partition("=")[0] not in allowed:
            yield f"{block.where}: {word!r} is none of {', '.join(sorted(allowed))}"
    if block.file is not None and not _is_inside(block.file):
        yield f"{block.where}: {block.file} is not below the directory of the reader"
    if block.language not in _SHELLS or block.file:
        return
    if block.language != "console":
        yield f"{block.where}: write commands as ```console, with $ before each"
        return
    for line in block.body.splitlines():
        if line.strip() and not line.startswith("$ "):
            yield f"{block.where}: {line!r} does not begin with '$ '"
    marks = [block.on_cluster, bool(block.tests), block.value("why") is not None]
    if sum(marks) > 1:
        yield f"{block.where}: cluster, test= and why= exclude each other"
    if block.value("why") is not None and len((block.why or "").split()) < 3:
        yield f"{block.where}: why={block.why!r} says too little"
    if not any(marks) and (boots := _BOOTS & set(" ".join(block.commands).split())):
        yield f"{block.where}: mark it as cluster or test=: {', '.join(boots)} needs VMs"
    missing = [name for name in block.tests if name not in known]
    if missing:
        yield f"{block.where}: there is no test {', '.join(missing)}"
    elif block.tests:
        yield from _not_in_tests(block, known)


def _not_in_tests(block: Block, known: Mapping[str, str]) -> Iterator[str]:
    """A test that does the same at least calls the same verb."""
    sources = "".join(known[name] for name in block.tests)
    for line in block.commands:
        words = shlex.split(line)
        verbs = [word for word in words[2:] if not word.startswith("-")] or [words[-1]]
        if f'"{verbs[0]}"' not in sources and f"'{verbs[0]}'" not in sources:
            yield f"{block.where}: {', '.join(block.tests)} never says {verbs[0]!r}"


def _is_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


@functools.cache
def known_tests() -> Mapping[str, str]:
    """``FILE.py::NAME`` of every test of the workspace -> the source of its file and helpers."""
    found = {}
    for place in ("core/tests", "plugins", "tests"):
        for path in (ROOT / place).rglob("test_*.py"):
            if ".venv" in path.parts:
                continue
            source = source_of(path)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    found[f"{path.name}::{node.name}"] = source
    return found


HOME = "/home/you"
"""The home directory in pages; `BUILDS` are programs that its owner has built there."""

BUILDS = (
    "kubernetes/_output/bin/kube-proxy",
    "kubernetes/_output/bin/kubelet",
    "cri-o/bin/crio",
    "cri-o/bin/pinns",
    "flannel/dist/flanneld",
)


@frozen(kw_only=True)
class Reader:
    """Somebody who does what a page says, in ``directory``, which looks like a clone."""

    directory: Path
    environment: Mapping[str, str]

    def prepare(self) -> None:
        """Make the directory: ``./run`` that sets nothing up, and the docs."""
        self.directory.mkdir(parents=True, exist_ok=True)
        run = self.directory / "run"
        # The programs of the environment that the tests run in, `xk8s` among them.
        programs = shlex.quote(str(Path(sys.executable).parent))
        run.write_text(f'#!/bin/sh\nPATH={programs}:$PATH exec "$@"\n')
        run.chmod(0o755)
        shutil.copytree(ROOT / "docs", self.directory / "docs")
        for program in BUILDS:
            path = self.directory / "home" / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a build of the reader's own\n")
        for name in ("plugins", "tools", "CHANGELOG.md"):
            (self.directory / name).symlink_to(ROOT / name)

    def follow(self, block: Block) -> None:
        """Write the block's file or run its commands; each has to succeed."""
        if block.file is not None:
            path = self.directory / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body)
            path.chmod(0o755 if block.body.startswith("#!") else 0o644)
        if not block.is_run:
            return
        for line in block.commands:
            self.run(line, block.where)

    def run(self, line: str, where: str = "") -> str:
        """Run a command line as a shell does; its stdout. It has to succeed."""
        done = subprocess.run(
            [
                "bash",
                "-eu",
                "-o",
                "pipefail",
                "-c",
                line.replace(HOME, str(self.directory / "home")),
            ],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=3000,
            check=False,
        )
        assert done.returncode == 0, (
            f"{where}: {line}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done.stdout
