"""``python -m xk8s_debian.record_kernel FACTS``: make FACTS the recorded table.

FACTS is the file kernel-facts.json of a built artifact ``debian-base`` (`xk8s artifacts` says
where it is). Run it when Debian's cloud kernel has changed what it has; the tests tell.
"""

from __future__ import annotations

import sys
from pathlib import Path

from xk8s_debian.kernel import facts_from_json, facts_to_json


def main(arguments: list[str]) -> int:
    """Record the table; exit code 0, or 2 for wrong usage."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    facts = facts_from_json(Path(arguments[0]).read_text())
    table = Path(__file__).parent / "data" / "kernel-facts.json"
    table.write_text(facts_to_json(facts))
    print(f"recorded {facts.release}: {len(facts.config)} symbols, {len(facts.modules)} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
