"""Digests of files that are gone are forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from xk8s.util import remembered
from xk8s.util.remembered import Fingerprints


def test_files_that_are_gone_are_forgotten_when_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_MANY", 10)
    known = tmp_path / "known.json"
    files = [tmp_path / f"f{number}" for number in range(15)]
    for path in files:
        path.write_text(path.name)
    Fingerprints(known).about(files[:10])
    Fingerprints(known).about(files[:1], lambda _: "other", "kind")
    assert len(json.loads(known.read_text())) == 11
    for path in files[5:10]:
        path.unlink()
    Fingerprints(known).about(files[10:])
    kept = {Path(name).name for name in json.loads(known.read_text())}
    assert kept == {"f0", "f0#kind", *(f"f{number}" for number in (1, 2, 3, 4, 10, 11, 12, 13, 14))}
