"""The cache key of an artifact: a digest of everything that its content depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xk8s.artifacts.model import (
    Artifact,
    DebPackage,
    GoModule,
    GoRelease,
    OciImage,
    OwnDirectory,
    Recipe,
    Release,
    Source,
)
from xk8s.errors import PluginError

FORMAT = 1
"""Raise it when the same artifact would be stored in another form."""

Fingerprint = Callable[[OwnDirectory, Iterable[str]], Mapping[str, str]]
"""Of a user's directory and members: the digest of each member that is there."""


def sha256_text(text: str | bytes) -> str:
    """Hex sha256 of a text (UTF-8) or bytes."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal texts. TypeError or
    ValueError for what JSON cannot say.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def artifact_key(artifact: Artifact, *, fingerprint: Fingerprint | None = None) -> str:
    """64 hex digits. Pure but for the files of `OwnDirectory` sources, which ``fingerprint``
    reads (default: `xk8s.artifacts.own.fingerprint`). `PluginError` when a recipe's params
    are no JSON values.
    """
    if fingerprint is None:
        # Late: own.py imports what acts on the world, and most plans have no own directory.
        from xk8s.artifacts import own

        fingerprint = own.fingerprint
    return _key(artifact, fingerprint, {})


def _key(artifact: Artifact, fingerprint: Fingerprint, known: dict[int, str]) -> str:
    # Inputs are shared between recipes; values with mappings cannot be hashed, so by identity
    # (they are all alive while their root is).
    if id(artifact) not in known:
        document = {
            "format": FORMAT,
            "name": artifact.name,
            "version": artifact.version,
            "members": artifact.members,
            "sources": [
                {"kind": type(source).__name__, **_source(source, artifact, fingerprint, known)}
                for source in artifact.sources
            ],
        }
        try:
            known[id(artifact)] = sha256_text(canonical(document))
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"artifact {artifact.name}: {error}",
                where=f"artifact {artifact.name}",
                hint="params of a Recipe must be JSON values: text, numbers, lists, mappings",
            ) from error
    return known[id(artifact)]


def _source(
    source: Source, artifact: Artifact, fingerprint: Fingerprint, known: dict[int, str]
) -> dict[str, Any]:
    match source:
        case OwnDirectory():
            # The path itself does not matter: equal files are the same artifact.
            return {"files": dict(fingerprint(source, artifact.members))}
        case Release():
            return {
                "url": source.url,
                "members": dict(source.members),
                "checksum_url": source.checksum_url,
                "sha256": source.sha256,
            }
        case GoModule():
            return {
                "go_mod": sha256_text(source.go_mod),
                "go_sum": sha256_text(source.go_sum),
                "packages": dict(source.packages),
                "ldflags": source.ldflags,
                "tags": source.tags,
                "extra_files": {
                    name: sha256_text(text) for name, text in source.extra_files.items()
                },
            }
        case GoRelease():
            return {
                "module": source.module,
                "version": source.version,
                "staging": source.staging,
                "packages": dict(source.packages),
                "ldflags": source.ldflags,
                "tags": source.tags,
            }
        case DebPackage():
            return {"suite": source.suite, "members": dict(source.members)}
        case OciImage():
            return {"ref": source.ref, "member": source.member}
        case Recipe():
            return {
                "function": source.function,
                "params": dict(source.params),
                "revision": source.revision,
                "inputs": [_key(one, fingerprint, known) for one in source.inputs],
            }
