"""The cache key of an artifact: a digest of everything that its content depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from xk8s.errors import PluginError
from xk8s.sources import (
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
from xk8s.util.digest import canonical, sha256_text
from xk8s.util.files import tree_digest
from xk8s.util.paths import cache_dir
from xk8s.util.remembered import fingerprints

PROVENANCE = "provenance.json"
"""Name of the file beside an artifact's tree that records where its members came from. Written
last.
"""

FORMAT = 1
"""Raise this when the same artifact would be stored in a different form."""

Fingerprint = Callable[[OwnDirectory, Iterable[str]], Mapping[str, str]]
"""Map a user's directory and members to the digest of each existing member."""


def artifact_key(artifact: Artifact, *, fingerprint: Fingerprint | None = None) -> str:
    """Return the cache key as 64 hex digits. Pure except for the files of `OwnDirectory` sources,
    which ``fingerprint`` reads (default: `own_digests`). `PluginError` if a recipe's params are not
    JSON values.
    """
    if fingerprint is None:
        fingerprint = own_digests
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
                "inputs": [_key(needed, fingerprint, known) for needed in source.inputs],
            }


def own_digests(source: OwnDirectory, members: Iterable[str]) -> Mapping[str, str]:
    """Return the digest of each member that the directory has: content and executability of a file,
    the whole tree of a directory. A missing directory gives nothing.
    """
    remembered = fingerprints()
    root = Path(source.path).expanduser()
    found = {}
    for member in members:
        path = root / member
        if path.is_dir():
            found[member] = tree_digest(path)
        elif path.is_file():
            found[member] = f"{remembered.file(path)}:{file_mode(path):o}"
    return found


def file_mode(path: Path) -> int:
    """Return the permission bits that the user's own build gets in the cache."""
    # Only executability: that a build left files group-writable is not a property of them.
    return 0o755 if path.stat().st_mode & 0o111 else 0o644


def entry_dir(key: str) -> Path:
    """Return where the cache keeps the artifact with this key, whether it exists or not."""
    return cache_dir() / "artifacts" / key


def is_cached(artifact: Artifact) -> bool:
    """Return whether the cache has the complete artifact."""
    return (entry_dir(artifact_key(artifact)) / PROVENANCE).exists()
