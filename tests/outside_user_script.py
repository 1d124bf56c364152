"""Run by test_outside.py as an ordinary user, and as root with mounts of its own: the way out
starts, changes and ends.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from xk8s.machine.net.namespace import Namespace
from xk8s.machine.net.outside import lead
from xk8s.util.processes import leftovers


def states(runtime: Path) -> dict[str, dict[str, str]]:
    """Fields of /proc/PID/status of what runs there, by program."""
    return {
        "uplink" if "slirp4netns" in process.command else "holder": dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        )
        for process in leftovers(runtime)
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        runtime = Path(name)
        net = Namespace.start(runtime)
        try:
            net.bridge("net0", mac="02:00:00:00:00:fa", addresses=("192.168.0.250/24",))
            lead(net, runtime, "internet")
            found = {"uid": os.getuid(), "internet": states(runtime)}
            lead(net, runtime, "none", again=True)
            lead(net, runtime, "all", again=True)
            found["all"] = states(runtime)
            found["mounted"] = Path("/dev/shm").is_mount()
        finally:
            net.stop()
        while left := leftovers(runtime):  # they end with the holder
            found["left"] = len(left)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
