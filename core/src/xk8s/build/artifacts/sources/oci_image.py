"""`OciImage`: an image pulled from a registry into an OCI layout directory.

The registry's HTTP API version 2, without credentials of one's own (an anonymous token is
fetched where the registry wants one). Every blob is checked against its digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from attrs import frozen

from xk8s.build.artifacts.attempt import Attempt
from xk8s.build.artifacts.sources.release import download
from xk8s.errors import SourceFailed, UsageError
from xk8s.image_reference import split_ref
from xk8s.sources import OciImage, Provenance
from xk8s.util.files import content_digest
from xk8s.util.http import LOOPBACK, Answer, Client, HttpError, client

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_PLATFORM = ("linux", "amd64")


@frozen(kw_only=True)
class Reference:
    """``host/repository:tag`` or ``host/repository@sha256:…``; ``tag`` is either."""

    host: str
    repository: str
    tag: str

    @property
    def base(self) -> str:
        """The URL that the API's paths of this repository begin with."""
        # The short name of that one registry is not a host of its API.
        host = f"index.{self.host}" if self.host == "docker.io" else self.host
        scheme = "http" if self.host.partition(":")[0] in LOOPBACK else "https"
        return f"{scheme}://{host}/v2/{self.repository}"


def parse(ref: str) -> Reference:
    """Return a reference with its registry; `SourceFailed` if it is invalid."""
    try:
        name, tag, digest = split_ref(ref)
    except UsageError as error:
        raise SourceFailed(f"{error} like registry.example/name:tag") from error
    host, _, repository = name.partition("/")
    return Reference(host=host, repository=repository, tag=digest or tag or "latest")


def provide(source: OciImage, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
    """Pull the image for linux/amd64."""
    if attempt.offline:
        raise SourceFailed("not tried (offline)")
    (member,) = wanted
    ref = parse(source.ref)
    layout = attempt.out / member
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    with client() as http:
        try:
            body, kind = _manifest(ref, http)
            digest = _digest(body)
            manifest = json.loads(body)
            for blob in [manifest["config"], *manifest["layers"]]:
                _pull(ref, blob, blobs, attempt, http)
        except HttpError as error:
            raise SourceFailed(f"{source.ref}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise SourceFailed(
                f"{source.ref}: the registry's answer makes no sense: {error}"
            ) from error
    (blobs / digest).write_bytes(body)
    descriptor = {
        "mediaType": kind,
        "digest": f"sha256:{digest}",
        "size": len(body),
        "annotations": {"org.opencontainers.image.ref.name": source.ref},
    }
    _write(layout / "oci-layout", {"imageLayoutVersion": "1.0.0"})
    _write(layout / "index.json", {"schemaVersion": 2, "manifests": [descriptor]})
    detail = f"{source.ref} sha256:{digest}"
    return [
        Provenance(member=member, kind="OCI registry", detail=detail, sha256=content_digest(layout))
    ]


def current(ref: str) -> str:
    """Return the digest, ``sha256:…``, of the manifest for linux/amd64 that a reference means now.
    `SourceFailed` when its registry does not tell.
    """
    with client() as http:
        try:
            body, _ = _manifest(parse(ref), http)
        except HttpError as error:
            raise SourceFailed(f"{ref}: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise SourceFailed(f"{ref}: the registry's answer makes no sense: {error}") from error
    return f"sha256:{_digest(body)}"


def _manifest(ref: Reference, http: Client) -> tuple[bytes, str]:
    """Return the image's manifest and its media type, an index followed to our platform."""
    body, kind = _get(ref, ref.tag, http)
    if kind not in _INDEXES:
        return body, kind
    for manifest in json.loads(body)["manifests"]:
        platform = manifest.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == _PLATFORM:
            return _get(ref, manifest["digest"], http)
    raise SourceFailed(f"{ref.repository}:{ref.tag} does not exist for {'/'.join(_PLATFORM)}")


def _get(ref: Reference, tag: str, http: Client) -> tuple[bytes, str]:
    url = f"{ref.base}/manifests/{tag}"
    headers = {"Accept": ", ".join(_INDEXES + _MANIFESTS)}
    answer = http.get(url, headers=headers)
    if answer.status == 401:
        http.headers["Authorization"] = f"Bearer {_token(answer, ref, http)}"
        answer = http.get(url, headers=headers)
    answer.raise_for_status()
    if tag.startswith("sha256:") and f"sha256:{_digest(answer.content)}" != tag:
        raise SourceFailed(f"{url}: the manifest is not the one with that digest")
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if kind not in _INDEXES + _MANIFESTS:
        raise SourceFailed(f"{url}: unknown kind of manifest {kind!r}")
    return answer.content, kind


def _token(answer: Answer, ref: Reference, http: Client) -> str:
    wanted = answer.headers.get("WWW-Authenticate", "")
    fields = dict(re.findall(r'(\w+)="([^"]*)"', wanted))
    if not wanted.lower().startswith("bearer ") or "realm" not in fields:
        raise SourceFailed(f"{ref.host} requires credentials, and xk8s has none")
    params = {name: fields[name] for name in ("service", "scope") if name in fields}
    granted = http.get(f"{fields['realm']}?{urlencode(params)}")
    granted.raise_for_status()
    document = granted.json()
    return str(document.get("token") or document["access_token"])


def _pull(
    ref: Reference, blob: Mapping[str, Any], blobs: Path, attempt: Attempt, http: Client
) -> None:
    algorithm, _, digest = str(blob["digest"]).partition(":")
    if algorithm != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise SourceFailed(f"{ref.repository}: unknown digest {blob['digest']!r}")
    target = blobs / digest
    if not target.exists():  # images do repeat layers
        download(f"{ref.base}/blobs/sha256:{digest}", digest, target, attempt, http)
        target.chmod(0o644)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
