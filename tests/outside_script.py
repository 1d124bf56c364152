"""Run by test_net_outside.py in a network namespace of its own: a guest without a VM, on the bridge
of a real namespace of a cluster. Prints what it reaches, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
from pathlib import Path

from xk8s.machine.net.namespace import Namespace
from xk8s.machine.net.outside import Endpoint, Outside, lead

from tests import small_world
from tests.small_world import ip

GUEST, GATEWAY = "192.168.0.1", "192.168.0.250"


def plug(net: Namespace, guest: int) -> None:
    holder = str(net.ping()["pid"])
    ip("link", "add", "g0", "type", "veth", "peer", "name", "eth0", "netns", str(guest))
    ip("link", "set", "g0", "netns", holder)
    net.configure(batch="link set g0 master net0\nlink set g0 up\n")
    for words in (
        ("link", "set", "lo", "up"),
        ("address", "add", f"{GUEST}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("route", "add", "default", "via", GATEWAY),
    ):
        done = small_world.inside(guest, "ip", *words)
        assert done.returncode == 0, done.stderr


def reached(guest: int) -> dict[str, object]:
    words = (sys.executable, "-c", small_world.CONNECT, *sorted(small_world.TRIED))
    done = small_world.inside(guest, *words)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def forwarded(net: Namespace) -> bool:
    """Whether a port of the host leads to the guest, with all that is sent, both ways."""
    port = net.forward(GUEST, small_world.PORT)
    assert net.forward(GUEST, small_world.PORT) == port
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        return stream.recv(5) == b"hello" and stream.recv(1) == b""


def served(net: Namespace, guest: int) -> bool:
    """Whether the guest reaches a server of the host's that was meant for it."""
    with net.listen(GATEWAY) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            stream, _ = server.accept()
            with stream:
                stream.sendall(b"image")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        code = f"import socket;print(socket.create_connection(({GATEWAY!r},{port})).recv(9))"
        done = small_world.inside(guest, sys.executable, "-c", code)
        return "image" in done.stdout


def closed(net: Namespace, address: str) -> bool:
    return address.encode() in net.run(["ip", "route", "show", "table", "102"]).stdout


def main(before: Outside, outside: Outside, host: str = "") -> None:
    proxy = Endpoint(host, small_world.PORT) if host else None
    with (
        tempfile.TemporaryDirectory() as name,
        small_world.world(),
        small_world.namespace() as guest,
    ):
        runtime = Path(name)
        net = Namespace.start(runtime)
        try:
            net.bridge("net0", mac="02:00:00:00:00:fa", addresses=(f"{GATEWAY}/24",))
            net.bridge("net2", mac="02:00:00:00:02:fa", addresses=("192.168.2.250/24",))
            lead(net, runtime, before, ("192.168.0.0/24",), proxy=proxy)
            if before != outside:
                lead(net, runtime, outside, ("192.168.0.0/24",), proxy=proxy, again=True)
            plug(net, guest)
            small_world.later()
            with (
                small_world.serving(small_world.HOST_LATER),
                small_world.serving(GUEST, pid=guest),
            ):
                # An address that the host gets is out of reach as soon as the holder knows it.
                while outside == "internet" and not closed(net, small_world.HOST_LATER):
                    pass
                found = reached(guest)
                found["forwarded"] = forwarded(net)
                found["served"] = served(net, guest)
        finally:
            net.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
