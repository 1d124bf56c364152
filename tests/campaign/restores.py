"""A cluster of Kubernetes, restored again and again: is it right each time?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from attrs import define

from tests.campaign.lab import Lab, Lost

UP = ("kubernetes", "coredns", "externalip")


@define
class Restores:
    """What came of them; ``late`` is the largest difference of a clock, in seconds."""

    times: int = 0
    wrong: int = 0
    late: float = 0.0


def run(lab: Lab, times: int, tell: Callable[[str], None]) -> Restores:
    """Restore it so many times in a row, and look at all of it each time."""
    found = Restores()
    lab.run("up", *UP)
    # A connection that stays open: its other end counts what comes.
    lab.run("exec", "-n", "vm-002", "--", "systemd-run", "--unit=count", "socat", "-u",
            "TCP-LISTEN:5999,reuseaddr", "OPEN:/run/count,creat,append")  # fmt: skip
    script = "exec 3<>/dev/tcp/192.168.1.2/5999; while sleep 0.2; do echo x >&3 || exit 1; done"
    lab.run("exec", "-n", "vm-001", "--", "systemd-run", "--unit=send", "bash", "-c", script)
    lab.run("snapshot", "save", "base")
    for number in range(times):
        found.times += 1
        try:
            lab.run("snapshot", "restore", "base")
            late = _look(lab)
            found.late = max(found.late, late)
        except Lost as error:
            found.wrong += 1
            tell(f"restore {number + 1}: {error}")
    lab.run("down")
    tell(f"{found.times} restores, {found.wrong} wrong, clocks off by {found.late:.2f} s at most")
    return found


def _look(lab: Lab) -> float:
    lab.run("check")
    status = json.loads(lab.run("exec", "-n", "vm-001", "--", "kubectl", "get", "nodes", "-o",
                                "json"))  # fmt: skip
    for node in status["items"]:
        name = node["metadata"]["name"]
        conditions = {condition["type"]: condition for condition in node["status"]["conditions"]}
        ready = conditions["Ready"]
        if ready["status"] != "True":
            raise Lost(f"{name} is not Ready: {ready}")
    missed = ("get", "events", "-A", "--field-selector", "reason=NodeNotReady", "-o", "json")
    events = json.loads(lab.run("exec", "-n", "vm-001", "--", "kubectl", *missed))
    if events["items"]:
        raise Lost("a node was NotReady for a while")
    late = 0.0
    for name in ("vm-001", "vm-002"):
        before = time.time()
        there = float(lab.run("exec", "-n", name, "--", "date", "+%s.%N"))
        # It was asked between these two moments.
        late = max(late, before - there, there - time.time())
        if late > 2:
            raise Lost(f"the clock of {name} is off by {late:.1f} s")
    count = ("exec", "-n", "vm-002", "--", "stat", "-c", "%s", "/run/count")
    size = int(lab.run(*count))
    deadline = time.monotonic() + 30
    while int(lab.run(*count)) <= size:
        if time.monotonic() > deadline:
            raise Lost("a TCP connection that was open is broken")
    return late
