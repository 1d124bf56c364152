"""What the docs tell a reader to do works: blocks of commands that need no VM are run here, those
that do in tests/cluster/test_pages.py, and for all others the page names a test or says why not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doc_blocks import (
    ROOT,
    Block,
    Reader,
    blocks,
    blocks_of,
    documents,
    known_tests,
    problems,
    unmarked,
)

WITHOUT_VM = [
    document
    for document in documents()
    if any(block.is_run and not block.on_cluster for block in blocks(document))
]


def reader(root: Path) -> Reader:
    """Somebody with nothing but a clone: no cache, no state, no configuration."""
    places = {name: str(root / name.lower()) for name in
              ("HOME", "XK8S_CACHE", "XK8S_STATE", "XK8S_RUNTIME", "XK8S_MEMORY")}  # fmt: skip
    one = Reader(directory=root / "clone", environment={**places, "KUBECONFIG": ""})
    one.prepare()
    return one


@pytest.mark.parametrize("document", WITHOUT_VM)
def test_commands_that_need_no_vm_work(document: str, tmp_path: Path) -> None:
    somebody = reader(tmp_path)
    for block in blocks(document):
        if not block.on_cluster:
            somebody.follow(block)


@pytest.mark.parametrize("document", documents())
def test_every_block_of_commands_is_run_or_says_why_not(document: str) -> None:
    known = known_tests()
    assert [problem for block in blocks(document) for problem in problems(block, known)] == []
    assert list(unmarked((ROOT / document).read_text(), document)) == []


@pytest.mark.parametrize(
    ("mark", "wrong"),
    [
        ("console clutser", "'clutser' is none of"),
        ("console test=test_no.py::test_such", "there is no test"),
        ("console test=test_lint.py::test_lint", "never says 'up'"),
        ('console why="no"', "says too little"),
        ('console cluster why="it takes an hour"', "exclude each other"),
        ("sh", "write commands as"),
        ("console", "needs VMs"),
        ("console file=../up", "not below"),
    ],
)
def test_a_wrong_mark_is_noticed(mark: str, wrong: str) -> None:
    (block,) = blocks_of(f"```{mark}\n$ ./run xk8s up debian\n```\n", "page.md")
    assert wrong in "\n".join(problems(block, known_tests()))


def test_output_in_a_block_of_commands_is_noticed() -> None:
    (block,) = blocks_of("text\n\n```console\n$ ./run xk8s cache\n0 B\n```\n", "page.md")
    assert list(problems(block, {})) == ["page.md:3: '0 B' does not begin with '$ '"]


def test_a_block_without_marks_is_noticed() -> None:
    fenced = "- a list\n\n  ```yaml\n  a:\n\n      b: 1\n  ```\n\n"
    assert list(
        unmarked(f"{fenced}    ./run xk8s up debian\n    ./run xk8s down\n", "page.md")
    ) == ["page.md:9: write an indented block between ``` and ```, marked"]
    assert list(unmarked(fenced, "page.md")) == []


def test_a_command_that_fails_fails_its_page(tmp_path: Path) -> None:
    page = "```console\n$ ./run xk8s cache\n$ ./run xk8s explain kubernetes.no_such\n```\n"
    somebody = reader(tmp_path)
    with pytest.raises(AssertionError, match=r"page.md:1: ./run xk8s explain .*: exit 2"):
        somebody.follow(*blocks_of(page, "page.md"))


def test_files_of_a_page_are_there_for_what_follows(tmp_path: Path) -> None:
    page = (
        "```ini file=work/etc/a.conf\na = 1\n```\n\n```sh file=work/usr/bin/a\n#!/bin/sh\n```\n\n"
        "```console\n$ grep -q 'a = 1' work/etc/a.conf && test -x work/usr/bin/a\n```\n"
    )
    somebody = reader(tmp_path)
    found: tuple[Block, ...] = blocks_of(page, "page.md")
    assert len(found) == 3
    for block in found:
        somebody.follow(block)
