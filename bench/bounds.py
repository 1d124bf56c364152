"""The bounds of the project, measured side by side in one run.

``./run python bench/bounds.py [RUNS]`` boots, RUNS times each and in turn, the plain base to its
login prompt and a one-node cluster to Ready, and times the commands that touch no VM. It prints
JSON: medians, and ratios where two things are compared. Absolute times depend on the machine;
the ratios are what to look at.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ONE_NODE = ("--nodes", "1", "--routers", "0")
MINUTES = 60.0


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    with tempfile.TemporaryDirectory(prefix="xk8s-b-", dir="/tmp") as directory:
        os.environ["XK8S_STATE"] = f"{directory}/s"
        os.environ["XK8S_RUNTIME"] = f"{directory}/r"
        try:
            print(json.dumps(measure(runs), indent=1))
        finally:
            xk8s("down", "--all")


def measure(runs: int) -> dict[str, Any]:
    """All figures; times in seconds, memory in MiB."""
    quick = {
        "help_s": median_time(5, "--help"),
        "plan_s": median_time(5, "plan", "--json", "kubernetes", "coredns", "externalip"),
    }
    # Artifacts and layers are made beforehand: they are not what a boot takes.
    xk8s("up", "--no-check", "debian", *ONE_NODE)
    xk8s("down")
    bare, ready, used = [], [], []
    for _ in range(runs):
        bare.append(boot("debian", *ONE_NODE))
        ready.append(boot("kubernetes", "coredns", *ONE_NODE))
        used.append(memory())
        xk8s("down")
    return {
        **quick,
        "runs": runs,
        "bare_boot_s": statistics.median(bare),
        "node_ready_s": statistics.median(ready),
        "ready_to_bare": round(statistics.median(ready) / statistics.median(bare), 2),
        "control_plane_used_mib": statistics.median(used),
    }


def boot(*words: str) -> float:
    """Seconds from power-on: to the login prompt for the plain base, to the last passed check
    of the cluster otherwise (then the cluster is left up).
    """
    if words[0] != "debian":
        xk8s("up", "--cold", *words)
        seconds = json.loads(xk8s("status", "--json"))["seconds"]
        return float(seconds["machines"] + seconds["boot"] + seconds["checks"])
    start = time.monotonic()
    up = subprocess.Popen(command("up", "--cold", *words), stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)  # fmt: skip
    console = Path(os.environ["XK8S_STATE"], "clusters", "xk8s", "console", "vm-001.log")
    began = None
    while True:
        if began is None and console.exists():
            began = time.monotonic()
        if began and b"vm-001 ~ #" in console.read_bytes():
            break
        if time.monotonic() - start > 10 * MINUTES:
            raise SystemExit("the base never came to its login prompt")
        time.sleep(0.05)
    seconds_taken = time.monotonic() - began
    up.wait(10 * MINUTES)
    xk8s("down")
    return seconds_taken


def memory() -> int:
    """MiB in use in the control plane's node, page cache not counted."""
    text = xk8s("exec", "vm-001", "--", "free", "-m")
    return int(text.splitlines()[1].split()[2])


def median_time(runs: int, *words: str) -> float:
    """Of a whole command, in seconds."""
    times = []
    for _ in range(runs):
        start = time.monotonic()
        xk8s(*words)
        times.append(time.monotonic() - start)
    return round(statistics.median(times), 3)


def xk8s(*words: str) -> str:
    """Run the command; its stdout."""
    done = subprocess.run(command(*words), stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def command(*words: str) -> list[str]:
    """The argv of xk8s in this environment."""
    return [str(Path(sys.executable).with_name("xk8s")), *words]


if __name__ == "__main__":
    main()
