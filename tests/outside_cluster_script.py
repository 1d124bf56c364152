"""Run by tests/cluster/test_outside.py in namespaces of its own: a real VM, and what it reaches
with each value of `cluster.outside`. Prints that as JSON, by step.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from xk8s.machine.net.namespace import Namespace
from xk8s.util.paths import runtime_dir

from tests import small_world

NAME = ("--name", "out")
_GUEST = (
    "for a in {}; do [ \"$(nc -w 20 $a {} </dev/null)\" = hello ] && echo $a; done 2>/dev/null; "
    "getent ahostsv4 x.test | cut -d' ' -f1 | head -n1"
)  # fmt: skip


def xk8s(*words: str) -> str:
    argv = [sys.executable, "-m", "xk8s.cli", *NAME, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def reached(*before: str) -> list[str]:
    """What root in the guest reaches, and finds for a name; ``before`` is what he tries first."""
    tried = " ".join(sorted(small_world.TRIED))
    script = "; ".join((*before, _GUEST.format(tried, small_world.PORT)))
    return xk8s("exec", "vm-001", "--", "sh", "-c", script).split()


def connections_over_a_save() -> list[str]:
    """Save the cluster, and return what a connection through a port of the host's brings before
    and after.
    """
    echo = "setsid socat TCP-LISTEN:7000,fork,reuseaddr EXEC:cat </dev/null >/dev/null 2>&1 &"
    xk8s("exec", "vm-001", "--", "sh", "-c", echo)
    net = Namespace.attach(runtime_dir(NAME[1]))
    port = net.forward("192.168.0.1", 7000)
    answers = []
    with connected(port) as stream:
        for word in (b"before", b"after."):
            stream.sendall(word)
            answers.append(stream.recv(6, socket.MSG_WAITALL).decode())
            if word == b"before":
                xk8s("snapshot", "save", "kept")
    return [*answers, str(net.forward("192.168.0.1", 7000) == port)]


def connected(port: int) -> socket.socket:
    """Connect as soon as somebody listens in the guest: until then it is reset."""
    while True:
        stream = socket.create_connection(("127.0.0.1", port))
        try:
            stream.sendall(b"hello?")
            if stream.recv(6, socket.MSG_WAITALL) == b"hello?":
                return stream
        except ConnectionError:
            pass
        stream.close()
        time.sleep(0.2)


def main(up: Sequence[str]) -> None:
    found: dict[str, list[str]] = {}
    with small_world.world():
        small_world.later()
        with small_world.serving(small_world.HOST_LATER):
            try:
                xk8s("up", *up)
                found["internet"] = reached()
                found["rules of the guest"] = reached(
                    "ip address add 192.168.255.100/24 dev eth0",
                    "ip address add 172.20.0.9/24 dev eth0",
                    "ip route add 192.168.255.2 via 192.168.0.250 dev eth0",
                    "ip route add 169.254.169.254 via 192.168.0.250 dev eth0",
                    "nft flush ruleset",
                )
                xk8s("exec", "vm-001", "--", "sh", "-c",
                     "ip address del 192.168.255.100/24 dev eth0;"
                     "ip address del 172.20.0.9/24 dev eth0")  # fmt: skip
                for value in ("none", "all", "internet"):
                    xk8s("apply", "-s", f"cluster.outside={value}")
                    found[f"apply {value}"] = reached()
                found["connections"] = connections_over_a_save()
                found["saved"] = reached()
                xk8s("down")
                xk8s("up", *up, "-s", "cluster.outside=none")
                found["restored with none"] = reached()
                xk8s("down")
                proxy = f"cluster.proxy=http://127.0.0.1:{small_world.PORT}"
                xk8s("up", *up, "-s", "cluster.outside=none", "-s", proxy)
                found["proxy"] = reached()
                # Restored and changed: a service that starts now is told.
                unit = "[Service]\\nType=oneshot\\nExecStart=sh -c 'env > /run/told'\\n"
                place = "/run/systemd/system/told.service"
                start = "systemctl start told && cat /run/told"
                script = f'printf "{unit}" > {place} && {start}'
                found["told"] = xk8s("exec", "vm-001", "--", "sh", "-c", script).split()
            finally:
                xk8s("down")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
