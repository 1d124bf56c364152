"""A real API server with a real etcd on this machine, without a VM: what needs no more than that
is tested against it in seconds.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import define, field
from xk8s.checks import NotYet
from xk8s.pki import Keys
from xk8s_etcd.artifacts import etcd_artifact
from xk8s_etcd.settings import EtcdSettings
from xk8s_kubernetes.api import Api, connect
from xk8s_kubernetes.kubeconfig import kubeconfig
from xk8s_kubernetes.secrets import CA, admin

from tests.cluster.kubectl import Kubectl
from tests.cluster.programs import kubernetes, programs

_FLAGS = (
    "--authorization-mode=RBAC",
    "--bind-address=127.0.0.1",
    "--endpoint-reconciler-type=none",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.96.0.0/16,fd00:4000::/112",
)


@define(eq=False)
class Server:
    """One that runs, with what is needed to speak to it as who may do everything."""

    root: Path
    keys: Keys
    port: int
    _etcd: str = field()
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the API."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        """A kubeconfig of the admin."""
        return self.root / "kubeconfig"

    @property
    def api(self) -> Api:
        """A client of the admin."""
        return connect(self.config)

    def kubectl(self, *words: str, stdin: Any = None) -> str:
        """What the real kubectl prints; ``stdin`` is an object for ``-f -``."""
        return Kubectl(self.config)(*words, stdin=json.dumps(stdin))

    def kubectl_says(self, *words: str) -> str:
        """The same with any exit code, without the last newline."""
        return Kubectl(self.config).run(*words).stdout.strip()

    def start(self) -> None:
        """Start the API server and wait until it serves."""
        assert self._process is None
        pki = self.root / "pki"
        with (self.root / "apiserver.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    kubernetes() / "kube-apiserver",
                    *_FLAGS,
                    f"--secure-port={self.port}",
                    f"--etcd-servers={self._etcd}",
                    f"--client-ca-file={pki / 'ca.crt'}",
                    f"--tls-cert-file={pki / 'apiserver.crt'}",
                    f"--tls-private-key-file={pki / 'apiserver.key'}",
                    f"--service-account-key-file={pki / 'sa.crt'}",
                    f"--service-account-signing-key-file={pki / 'sa.key'}",
                ],
                stdout=log,
                stderr=log,
            )
        wait_for(self._ready, 240)

    def kill(self) -> None:
        """End it as a crash would; etcd keeps what it knew."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.root / "apiserver.log").read_text()[-3000:])
        try:
            return self.api.text("/readyz") == "ok"
        except NotYet:
            return False


@contextmanager
def api_server(root: Path) -> Iterator[Server]:
    """It runs within the context; ``root`` takes its data, keys and logs."""
    client, peer, port = free_ports(3)
    keys = Keys(root / "pki")
    keys.cert(
        CA, "apiserver", common_name="kube-apiserver", sans=["127.0.0.1"], server=True, client=False
    )
    keys.signing_key("sa")
    server = Server(root=root, keys=keys, port=port, etcd=f"http://127.0.0.1:{client}")
    server.config.write_bytes(
        kubeconfig(name="t", server=server.url, ca=keys.ca(CA).cert, user="a", pair=admin(keys))
    )
    with (root / "etcd.log").open("wb") as log:
        etcd = subprocess.Popen(
            [
                programs(etcd_artifact(EtcdSettings())) / "etcd",
                f"--data-dir={root / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{client}",
                f"--advertise-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server.start()
        yield server
    finally:
        if server._process is not None:
            server.kill()
        etcd.kill()
        etcd.wait()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody had a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [connection.getsockname()[1] for connection in sockets]
    for connection in sockets:
        connection.close()
    return ports


def wait_for(condition: Any, seconds: float = 60) -> Any:
    """What ``condition()`` returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)
    return found
