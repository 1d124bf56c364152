"""The same overlay in another process: ``python -m xk8s.testing.other_process`` answers in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

SECONDS = 120.0
_OTHER_SEED = {"0": "1"}


def ask_again(overlay: str, beside: tuple[str, ...], sets: tuple[str, ...]) -> dict[str, Any]:
    """Return what `take_notes` finds in a fresh interpreter whose hashes of strings differ from
    ours.
    """
    seed = _OTHER_SEED.get(os.environ.get("PYTHONHASHSEED", ""), "0")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    request = json.dumps({"overlay": overlay, "beside": beside, "sets": sets})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "xk8s.testing.other_process", request],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        return {"failed": done.stderr[-2000:].strip() or f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Answer on stdout."""
    from xk8s.testing.hook_recorder import take_notes

    request = json.loads(sys.argv[1])
    notes = take_notes(request["overlay"], tuple(request["beside"]), tuple(request["sets"]))
    print(json.dumps({**notes.as_data(), "did": notes.did}))


if __name__ == "__main__":
    main()
