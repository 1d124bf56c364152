"""The text of a test: its file, and the helpers below tests/ that it is made of."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_HELPER = re.compile(r"^from tests\.(installed|cluster\.\w+) import", re.M)


def source_of(test: Path) -> str:
    """Its own text, then that of what it imports, and of what these import."""
    texts: dict[Path, str] = {}
    paths = [test]
    while paths:
        path = paths.pop()
        texts[path] = path.read_text()
        names = _HELPER.findall(texts[path])
        helpers = {ROOT / "tests" / f"{name.replace('.', '/')}.py" for name in names}
        paths += sorted(helpers - texts.keys())
    return "\n".join(texts.values())
