"""Run a generator: ``./run python tools/docs pages DOCS`` or ``… contract FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.docs import contract, pages

if __name__ == "__main__":
    name, *words = sys.argv[1:] or [""]
    mains = {"pages": pages.main, "contract": contract.main}
    if name not in mains:
        sys.exit(f"{__doc__}\nGenerators: {', '.join(mains)}")
    sys.exit(mains[name](words))
