"""What local directories override in the layers and the nodes' own files, and whose files those
were.

`over_plan` knows what the overlays declared. The content of a ready image (the base system) or of a
directory taken from an artifact is not declared: `image_overrides` in xk8s.cluster.change looks
into the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import field, frozen

from xk8s.errors import PlanError
from xk8s.overlay import Directory, Entry, Layer, Symlink, Take
from xk8s.planning.ownership import claims

Parts = tuple[str, ...]

MOST_LINES = 20
"""Lines shown for one directory; JSON has all."""


@frozen(kw_only=True)
class Replaced:
    """A path that had another owner: an overlay's ``layer``, or the own files of ``nodes``."""

    path: str
    overlay: str
    layer: str = ""
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"layer {self.layer}" if self.layer else f"own file of {', '.join(self.nodes)}"
        return f"{self.path} of {self.overlay} ({where})"


@frozen(kw_only=True)
class Override:
    """Effect of a directory, by path: ``added`` is what replaces nothing as far as known."""

    directory: str
    layer: str
    replaced: tuple[Replaced, ...]
    added: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Return lines for people, truncated if there are many."""
        found = [f"replaces {replaced}" for replaced in self.replaced]
        found += [f"adds {path}" for path in self.added]
        yield from found[:MOST_LINES]
        if len(found) > MOST_LINES:
            yield f"and {len(found) - MOST_LINES} more: see `xk8s plan … --json`"


@frozen(kw_only=True)
class Below:
    """A path below a directory's layer. ``entry`` None: it may be anything."""

    overlay: str
    layer: str = ""
    nodes: tuple[str, ...] = ()
    entry: Entry | None = None

    def replaced(self, path: str) -> Replaced:
        """Return this path as replaced by something above it."""
        return Replaced(path=path, overlay=self.overlay, layer=self.layer, nodes=self.nodes)

    @property
    def whose(self) -> str:
        """Return its owner, for errors."""
        return f"{self.overlay} (layer {self.layer})" if self.layer else f"{self.overlay}"


@frozen
class _Stack:
    """Everything below: ``files`` by path (the topmost last), and the directories that these files
    require.
    """

    files: dict[Parts, list[Below]] = field(factory=dict)
    directories: dict[Parts, Below] = field(factory=dict)

    def add(self, parts: Parts, below: Below) -> None:
        self.files.setdefault(parts, []).append(below)
        self.add_directory(parts[:-1], below)

    def add_directory(self, parts: Parts, below: Below) -> None:
        for count in range(len(parts) + 1):
            self.directories.setdefault(parts[:count], below)


def over_plan(
    directories: Sequence[tuple[str, Layer]],
    stack: Iterable[tuple[str, Layer]],
    node_files: Mapping[str, Mapping[str, str]],
) -> tuple[Override, ...]:
    """Return what ``directories`` (name and layer, lowest first) override in a ``stack`` (likewise)
    and in ``node_files`` (node -> path -> overlay).

    `PlanError` if a file or link would hide a directory, or a directory a file.
    """
    below = _Stack()
    for overlay, layer in stack:
        _add(below, overlay, layer)
    nodes: dict[tuple[str, str], list[str]] = {}
    for node, files in node_files.items():
        for path, overlay in files.items():
            nodes.setdefault((path, overlay), []).append(node)
    for (path, overlay), names in nodes.items():
        below.add(_parts(path), Below(overlay=overlay, nodes=tuple(names)))
    found = []
    for name, layer in directories:
        found.append(_over(name, layer, below))
        _add(below, name, layer)
    return tuple(found)


def _add(below: _Stack, overlay: str, layer: Layer) -> None:
    for claim in claims(overlay, layer):
        lower = Below(overlay=overlay, layer=layer.name, entry=claim.entry)
        below.add(claim.parts, lower)
    for entry in layer.entries:
        if isinstance(entry, Directory):
            lower = Below(overlay=overlay, layer=layer.name)
            below.add_directory(_parts(entry.path), lower)


def _over(name: str, layer: Layer, below: _Stack) -> Override:
    replaced: list[Replaced] = []
    added: list[str] = []
    for entry in layer.entries:
        parts = _parts(entry.path)
        whole = [parts[:count] for count in range(1, len(parts))]
        if isinstance(entry, Directory):
            whole.append(parts)
        elif parts in below.directories:
            raise hides(name, entry.path, below.directories[parts].whose)
        for prefix in whole:
            for lower in below.files.get(prefix, ()):
                # A member of an artifact may be a directory.
                if not isinstance(lower.entry, Take):
                    target = lower.entry.target if isinstance(lower.entry, Symlink) else ""
                    raise leads_through(
                        name, entry.path, "/" + "/".join(prefix), lower.whose, target
                    )
        if isinstance(entry, Directory):
            if parts not in below.directories:
                added.append(entry.path + "/")
        elif parts in below.files:
            topmost = below.files[parts][-1]
            if topmost.nodes:  # other nodes may have it from another overlay
                own = [file for file in below.files[parts] if file.nodes]
                replaced += [file.replaced(entry.path) for file in own]
            else:
                replaced.append(topmost.replaced(entry.path))
        else:
            added.append(entry.path)
    return Override(directory=name, layer=layer.name, replaced=tuple(replaced), added=tuple(added))


def hides(directory: str, path: str, whose: str) -> PlanError:
    """Return the error for a file or link in place of a directory."""
    return PlanError(
        f"{path} in {directory} would hide a directory with files of {whose}",
        where=directory,
        hint="make it a directory with just the files to replace",
    )


def leads_through(directory: str, path: str, stop: str, whose: str, target: str = "") -> PlanError:
    """Return the error for a directory in place of a file or of a link (to ``target``)."""
    what = f"a link to {target}" if target else "a file"
    return PlanError(
        f"{path} in {directory} needs a directory {stop}, which is {what} of {whose}",
        where=directory,
        hint=f"put it where the link points, at {target}" if target else "leave it out",
    )


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part)
