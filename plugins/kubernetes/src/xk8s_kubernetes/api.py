"""A small client of the API server, used from the host with the admin's certificate."""

from __future__ import annotations

import functools
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import yaml
from attrs import define, field
from xk8s.checks import NotYet

_TIMEOUT = 10.0


@define(eq=False)
class Api:
    """Requests to one API server over one connection that is kept open: without KVM, a TLS
    handshake costs a guest more than many answers.
    """

    _client: httpx2.Client = field()

    def get(self, path: str) -> Any:
        """Return the JSON at ``path``; `NotYet` if there is no server or no such object (yet)."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """Return the body at ``path``; errors as for `get`."""
        return self._ask("GET", path).text

    def create(self, path: str, what: dict[str, Any]) -> None:
        """POST an object; an existing one is fine."""
        self._ask("POST", path, what, fine=409)

    def delete(self, path: str, *, at_once: bool = True) -> None:
        """DELETE an object at once, or in its own time; a missing one is fine."""
        self._ask("DELETE", f"{path}?gracePeriodSeconds=0" if at_once else path, fine=404)

    def patch(self, path: str, change: dict[str, Any]) -> None:
        """PATCH by merging (RFC 7396): None removes a field."""
        self._ask("PATCH", path, change, kind="application/merge-patch+json")

    def _ask(
        self,
        method: str,
        path: str,
        what: dict[str, Any] | None = None,
        *,
        kind: str = "application/json",
        fine: int = 0,
    ) -> httpx2.Response:
        headers = {"Content-Type": kind} if what is not None else {}
        try:
            answer = self._client.request(method, path, json=what, headers=headers)
        except httpx2.HTTPError as error:
            raise NotYet(
                f"no answer from the API server: {error or type(error).__name__}"
            ) from error
        if answer.is_error and answer.status_code != fine:
            text = _message(answer)
            raise NotYet(f"{method} {path.split('?')[0]}: {answer.status_code} {text}")
        return answer


def connect(kubeconfig: Path) -> Api:
    """Return a client for the server, authority and identity in that file. `NotYet` if it is not
    written yet.
    """
    try:
        return _connect(kubeconfig.read_text())
    except OSError as error:
        raise NotYet(f"{kubeconfig}: {error.strerror}") from error


@functools.lru_cache(maxsize=8)
def _connect(text: str) -> Api:
    # By content: a rotation of the keys rewrites the file.
    config = yaml.safe_load(text)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=_text(cluster["certificate-authority-data"]))
    with _chain(user) as (cert, key):
        context.load_cert_chain(cert, key)
    client = httpx2.Client(
        base_url=cluster["server"], verify=context, timeout=_TIMEOUT, trust_env=False
    )
    return Api(client)


@contextmanager
def _chain(user: dict[str, str]) -> Iterator[tuple[Path, Path]]:
    """Load the certificate chain. OpenSSL reads keys from files only; the directory is 0700 and
    removed at once.
    """
    with TemporaryDirectory(prefix="xk8s-") as directory:
        paths = Path(directory, "crt"), Path(directory, "key")
        names = ("client-certificate-data", "client-key-data")
        for path, name in zip(paths, names, strict=True):
            path.write_text(_text(user[name]))
        yield paths


def _text(data: str) -> str:
    import base64

    return base64.b64decode(data).decode()


def _message(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()[:4000]  # /readyz lists some forty parts
