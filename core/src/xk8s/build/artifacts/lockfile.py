"""`xk8s.lock`: what each artifact was when it was first resolved, so that it stays that."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from pathlib import Path

from attrs import asdict, define, field, frozen
from filelock import FileLock

from xk8s.build.artifacts.attempt import Resolved
from xk8s.errors import ArtifactError
from xk8s.sources import LOCAL, OWN_DIRECTORY
from xk8s.util.files import write_atomic

VERSION = 1


@frozen(kw_only=True)
class Pin:
    """One locked artifact. ``sources`` are "member: kind detail" lines, sorted."""

    name: str
    version: str
    key: str
    digest: str
    sources: tuple[str, ...]

    @classmethod
    def of(cls, resolved: Resolved) -> Pin:
        """Return the pin that a resolved artifact would have."""
        return cls(
            name=resolved.name,
            version=resolved.version,
            key=resolved.key,
            digest=resolved.digest,
            sources=tuple(
                sorted(
                    f"{origin.member}: {origin.kind} {origin.detail}"
                    for origin in resolved.provenance
                )
            ),
        )


@define(eq=False)
class LockFile:
    """A lock file (JSON, sorted, one artifact a block) that need not exist yet.

    ``update`` True writes what is found; False refuses what differs from the file. Artifacts
    with a new key (their definition changed) or from other sources are recorded in both.
    """

    path: Path
    update: bool = False
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def read(self) -> tuple[Pin, ...]:
        """Return the pins by name and key. `ArtifactError` when the file is damaged."""
        try:
            document = json.loads(self.path.read_text())
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error
        try:
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']}, not {VERSION}")
            return tuple(
                Pin(
                    name=str(entry["name"]),
                    version=str(entry["version"]),
                    key=str(entry["key"]),
                    digest=str(entry["digest"]),
                    sources=tuple(str(source) for source in entry["sources"]),
                )
                for entry in document["artifacts"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def check(self, resolved: Resolved) -> None:
        """Compare with the pin of the same key and sources, and record what has none.

        The user's own builds are not locked: they change with every build. Raises
        `ArtifactError` when the content differs.
        """
        if any(origin.kind in (OWN_DIRECTORY, LOCAL) for origin in resolved.provenance):
            return
        new = Pin.of(resolved)
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock")):
                pins = self.read()
                same = [pin for pin in pins if (pin.key, pin.sources) == (new.key, new.sources)]
                if same == [new]:
                    return
                if same and not self.update:
                    raise ArtifactError(
                        f"artifact {new.name} {new.version} differs from {self.path.name}: "
                        f"digest {new.digest[:16]}…, locked {same[0].digest[:16]}…",
                        where=str(self.path),
                        hint="if the change is wanted: xk8s artifacts --update-lock",
                        log="\n".join(new.sources),
                    )
                kept = [pin for pin in pins if pin.key != new.key]
                self._write([*kept, new])

    def _write(self, pins: Iterable[Pin]) -> None:
        ordered = sorted(pins, key=lambda pin: (pin.name, pin.key))
        document = {"version": VERSION, "artifacts": [asdict(pin) for pin in ordered]}
        write_atomic(self.path, json.dumps(document, indent=1) + "\n")

    def _damaged(self, error: Exception) -> ArtifactError:
        return ArtifactError(
            f"{self.path} cannot be read: {error}",
            where=str(self.path),
            hint="restore it from version control, or remove it to lock again",
        )


def project_lock(*, update: bool = False) -> LockFile | None:
    """Return the lock file of the current directory; None if there is none and none should be
    created.
    """
    path = Path("xk8s.lock")
    return LockFile(path=path, update=update) if update or path.exists() else None
