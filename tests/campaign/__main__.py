"""Run the campaign, or a part of it, and write its table."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path

import attrs
from xk8s.testing import Xk8s

from tests.campaign import restores, strike
from tests.campaign.faults import SIZE, Fault, Killed, NoRoom
from tests.campaign.lab import Lab
from tests.campaign.verbs import VERBS
from tests.mounts import tmpfs


def main() -> int:
    """Return 1 if anything was lost."""
    names = [verb.name for verb in VERBS]
    parser = argparse.ArgumentParser(prog="./run python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--points", type=int, default=20, help="kills of each verb")
    parser.add_argument(
        "--full", type=int, default=0, help="times that the disk is full, each verb"
    )
    parser.add_argument("--verb", action="append", choices=names, help="only these")
    parser.add_argument("--restores", type=int, default=0, help="so many, of a Kubernetes cluster")
    parser.add_argument("--json", type=Path, help="a file for the results")
    given = parser.parse_args()

    def tell(text: str) -> None:
        print(text, flush=True)

    tell(f"seed {given.seed}")
    results: dict[str, object] = {"seed": given.seed}
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="xk8s-t-", dir="/tmp") as place:
        disk = Path(place).resolve() / "disk"
        with tmpfs(disk, str(SIZE)):
            lab = Lab(Xk8s(root=disk))
            try:
                faults: list[tuple[Fault, int]] = [
                    (Killed(), given.points),
                    (NoRoom(disk), given.full),
                ]
                rows = [
                    row
                    for fault, points in faults
                    if points
                    for row in strike.run(lab, fault, given.verb or names, points, given.seed, tell)
                ]
                results["rows"] = [attrs.asdict(row) for row in rows]
                wrong += sum(row.lost for row in rows)
                if given.restores:
                    found = restores.run(lab, given.restores, tell)
                    results["restores"] = attrs.asdict(found)
                    wrong += found.wrong
            finally:
                lab.xk8s("down", "--all")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
