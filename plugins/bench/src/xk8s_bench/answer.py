"""Waiting until a cluster's API server answers the host: GET of its nodes, with the cluster's
kubeconfig.

The core knows nothing of Kubernetes; this knows the few lines of that file that an overlay writes
into the cluster's state, and Python's own HTTP client.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from xk8s.errors import MachineError

FILE = "kubeconfig"
"""Below a cluster's state, where it has such a server."""

_PATH = "/api/v1/nodes"
_TIMEOUT = 5.0


class Asker(threading.Thread):
    """Asks again and again, from the moment that the file is there until all ``nodes`` are in the
    answer or `stop` is called. ``at`` is when it was answered (of `time.monotonic`), or None.
    """

    def __init__(self, kubeconfig: Path, nodes: frozenset[str]) -> None:
        super().__init__(daemon=True)
        self._kubeconfig = kubeconfig
        self._nodes = nodes
        self._ended = threading.Event()
        self.at: float | None = None
        self.last = "the file does not exist"

    def run(self) -> None:
        """Ask; more seldom the longer it lasts, for each question takes the guest's CPU."""
        begin = time.monotonic()
        while not self._ended.is_set():
            try:
                names = ask(self._kubeconfig.read_text())
                if self._nodes <= names:
                    self.at = time.monotonic()
                    return
                self.last = f"it knows {', '.join(sorted(names)) or 'no node'}"
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.last = f"{type(error).__name__}: {error}"
            self._ended.wait(0.02 + (time.monotonic() - begin) / 50)

    def wait(self, seconds: float) -> float:
        """``at``, for which it waits; `MachineError` with the last answer after ``seconds``."""
        self.join(seconds)
        if self.at is None:
            raise MachineError(
                f"the API server did not answer the host within {seconds:.0f} s",
                hint="`xk8s up` of the same overlays, then `kubectl get nodes`",
                log=self.last,
            )
        return self.at

    def stop(self) -> None:
        """Ask no more; returns when the last question is over."""
        self._ended.set()
        if self.ident is not None:  # it was started
            self.join()


def ask(text: str) -> frozenset[str]:
    """Return names of the nodes. OSError or HTTPException if there is no answer (yet), ValueError
    if the answer is malformed or the text is not a kubeconfig.
    """
    server = urllib.parse.urlsplit(_field(text, "server"))
    context = ssl.create_default_context(cadata=_decoded(text, "certificate-authority-data"))
    # OpenSSL reads keys from files only; the directory is 0700 and gone at once.
    with tempfile.TemporaryDirectory(prefix="xk8s-") as directory:
        pair = Path(directory, "pair")
        pair.write_text(
            _decoded(text, "client-certificate-data") + _decoded(text, "client-key-data")
        )
        context.load_cert_chain(pair)
    connection = http.client.HTTPSConnection(
        server.hostname or "", server.port, timeout=_TIMEOUT, context=context
    )
    try:
        connection.request("GET", _PATH)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ValueError(f"GET {_PATH}: {answer.status}")
    return frozenset(item["metadata"]["name"] for item in json.loads(body)["items"])


def _field(text: str, name: str) -> str:
    found = re.search(rf"^[ -]*{name}: *[\"']?([^\"'\s]+)", text, re.M)
    if found is None:
        raise ValueError(f"no {name} in it")
    return found[1]


def _decoded(text: str, name: str) -> str:
    return base64.b64decode(_field(text, name)).decode()
