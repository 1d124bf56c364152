"""What a report collects about etcd."""

from __future__ import annotations

from collections.abc import Iterator

from xk8s.overlay import Observation

from xk8s_etcd import DATA, PKI, ROLES


def observations() -> Iterator[Observation]:
    """Return its log, and its own state."""
    yield Observation(
        name="log/etcd.log", argv=("tail", "-n", "2000", "/var/log/etcd.log"), roles=ROLES
    )
    client = (
        "etcdctl",
        "--endpoints=https://127.0.0.1:2379",
        f"--cacert={PKI}/ca.crt",
        f"--cert={PKI}/server.crt",
        f"--key={PKI}/server.key",
    )
    yield Observation(name="etcd/space", argv=("df", "-m", DATA), roles=ROLES)
    files = ("find", DATA, "-type", "f", "-printf", r"%s %P\n")
    yield Observation(name="etcd/files", argv=files, roles=ROLES)
    yield Observation(name="etcd/alarms", argv=(*client, "alarm", "list"), roles=ROLES)
    for what in ("status", "health"):
        yield Observation(
            name=f"etcd/{what}", argv=(*client, "endpoint", what, "-w", "table"), roles=ROLES
        )
