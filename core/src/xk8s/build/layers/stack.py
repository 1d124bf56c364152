"""What a guest sees at a path, given its stack of layers.

A stack is seen as overlayfs does: the topmost layer with a path counts; directories of several
layers are merged, unless something else lies between them. Opaque directories are not known here:
images that xk8s makes have no extended attributes.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Protocol

from attrs import define, field

from xk8s.build.layers.erofs_read import ErofsEntry, ErofsImage


class StackLevel(Protocol):
    """One layer of a stack. Equal keys mean equal content."""

    @property
    def name(self) -> str:
        """Return the name of the layer."""

    @property
    def key(self) -> str:
        """Return a digest of its content."""

    def find(self, path: str) -> ErofsEntry | None:
        """Find as `ErofsImage.find` does."""

    def walk(self) -> Iterator[ErofsEntry]:
        """Walk as `ErofsImage.walk` does."""

    def identity(self, found: ErofsEntry) -> str:
        """Return the identity of a file: its mode and content, as `identity` writes them."""


@define(eq=False)
class ImageLevel:
    """An image."""

    name: str
    key: str
    image: ErofsImage
    _found: dict[str, ErofsEntry | None] = field(factory=dict, init=False)
    _identities: dict[str, str] = field(factory=dict, init=False)

    def find(self, path: str) -> ErofsEntry | None:
        """Find as `ErofsImage.find` does; a path is looked up once for all nodes."""
        if path not in self._found:
            self._found[path] = self.image.find(path)
        return self._found[path]

    def walk(self) -> Iterator[ErofsEntry]:
        """Walk as `ErofsImage.walk` does."""
        return self.image.walk()

    def identity(self, found: ErofsEntry) -> str:
        """Reads the file, once."""
        if found.path not in self._identities:
            data = self.image.read(found.path)
            self._identities[found.path] = identity(found.mode, data)
        return self._identities[found.path]


@define(eq=False)
class FilesLevel:
    """Files of which only the identities are known: those of a node itself."""

    name: str
    files: Mapping[str, str]
    _directories: frozenset[str] = field(init=False)

    @_directories.default
    def _parents(self) -> frozenset[str]:
        return frozenset(str(above) for path in self.files for above in PurePosixPath(path).parents)

    @property
    def key(self) -> str:
        """Return a digest of all its files."""
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()

    def find(self, path: str) -> ErofsEntry | None:
        """Find as `ErofsImage.find` does; sizes are not known."""
        if path in self.files:
            mode = int(self.files[path].partition(":")[0], 8)
            return ErofsEntry(path=path, mode=stat.S_IFREG | mode, size=0)
        if path in self._directories:
            return ErofsEntry(path=path, mode=stat.S_IFDIR | 0o755, size=0)
        return None

    def walk(self) -> Iterator[ErofsEntry]:
        """Return all paths but the root."""
        for path in sorted({*self.files, *self._directories} - {"/"}):
            found = self.find(path)
            assert found is not None
            yield found

    def identity(self, found: ErofsEntry) -> str:
        """Return the identity as it was given."""
        return self.files[found.path]


def identity(mode: int, data: bytes) -> str:
    """Format the identity of a file: permission bits and content."""
    return f"{mode & 0o7777:o}:{hashlib.sha256(data).hexdigest()}"


@define(eq=False)
class Stack:
    """Layers, lowest first."""

    levels: Sequence[StackLevel]
    _seen: dict[str, tuple[StackLevel, ...]] = field(factory=dict, init=False)

    def find(self, path: str) -> tuple[StackLevel, ErofsEntry] | None:
        """Return what a guest sees at an absolute path, and the layer it is from. Links are not
        followed.
        """
        above = str(PurePosixPath(path).parent)
        for level in self._merged(above):
            if found := level.find(path):
                return None if found.kind == "whiteout" else (level, found)
        return None

    def _merged(self, directory: str) -> tuple[StackLevel, ...]:
        """Return the layers whose content of a directory is seen, topmost first."""
        if directory == "/":
            return tuple(reversed(self.levels))
        if directory not in self._seen:
            merged = []
            for level in self._merged(str(PurePosixPath(directory).parent)):
                if (found := level.find(directory)) is None:
                    continue
                if found.kind != "directory":
                    break
                merged.append(level)
            self._seen[directory] = tuple(merged)
        return self._seen[directory]
