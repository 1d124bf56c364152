"""Check that every path in a stack of layers has one owner: on the plan, before anything is built.

The plan does not know the content of a ready ``image`` (the base system): every overlay may put
files over it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from attrs import frozen

from xk8s.errors import PlanError
from xk8s.overlay import Directory, Entry, File, Layer, Symlink, Take
from xk8s.util.guest_paths import guest_path


@frozen(kw_only=True)
class Claim:
    """An entry's claim on a path, with the overlay and layer that put it there."""

    overlay: str
    layer: Layer
    entry: Entry
    parts: tuple[str, ...]

    @property
    def path(self) -> str:
        """The absolute path."""
        return "/" + "/".join(self.parts)

    def __str__(self) -> str:
        return f"{self.overlay!r} (layer {self.layer.name!r})"


def check_owners(stack: Sequence[tuple[str, Layer]]) -> None:
    """Check a stack of (overlay, layer), lowest first.

    A file, a link or a member of an artifact owns its path and everything below it;
    directories are shared. Layers that share no role never meet. A later layer may put
    something over a lower one's if it says ``replaces``. `PlanError` names both overlays, or
    the overlay with a bad path.
    """
    owners: dict[tuple[str, ...], list[Claim]] = {}
    below: dict[tuple[str, ...], list[Claim]] = {}
    for overlay, layer in stack:
        for claim in claims(overlay, layer):
            above = [claim.parts[:count] for count in range(len(claim.parts))]
            for prefix in (*above, claim.parts):
                for other in owners.get(prefix, ()):
                    _check_pair(other, claim)
            for other in below.get(claim.parts, ()):
                _check_pair(other, claim)
            owners.setdefault(claim.parts, []).append(claim)
            for prefix in above:
                below.setdefault(prefix, []).append(claim)


def claims(overlay: str, layer: Layer) -> Iterator[Claim]:
    """Yield what a layer owns, by its entries; `PlanError` names the overlay with a bad path."""
    for entry in layer.entries:
        try:
            guest_path(entry.path)
            if isinstance(entry, Directory):
                continue
            names: Iterable[str] = ("",)
            if isinstance(entry, Take) and PurePosixPath(entry.member) == PurePosixPath("."):
                # The whole artifact: only its members are known.
                names = entry.artifact.members
            for name in names:
                whole = guest_path(f"{entry.path}/{name}")
                if not whole.parts and isinstance(entry, (File, Symlink)):
                    raise ValueError("'/' is a directory")
                yield Claim(overlay=overlay, layer=layer, entry=entry, parts=whole.parts)
        except ValueError as error:
            raise PlanError(
                f"overlay {overlay!r}, layer {layer.name!r}: {error}",
                where=f"layer {layer.name}",
                hint="paths in layers are absolute and without '.' and '..'",
            ) from error


def _check_pair(lower: Claim, upper: Claim) -> None:
    if lower.layer is not upper.layer:
        if not lower.layer.roles & upper.layer.roles:
            return
        allowed = [guest_path(prefix).parts for prefix in upper.layer.replaces]
        for parts in (lower.parts, upper.parts):
            if any(parts[: len(prefix)] == prefix for prefix in allowed):
                return
    what = upper.path if lower.path == upper.path else f"{upper.path}, {lower.path}"
    if lower.layer is upper.layer:
        message = f"layer {upper.layer.name!r} of overlay {upper.overlay!r} has {what} twice"
    elif lower.overlay == upper.overlay:
        message = (
            f"layers {lower.layer.name!r} and {upper.layer.name!r} of overlay {upper.overlay!r} "
            f"both write {what}"
        )
    else:
        message = f"overlays {lower} and {upper} both write {what}"
    raise PlanError(
        message,
        where=upper.path,
        hint=f"leave one out, or let layer {upper.layer.name!r} say replaces=({upper.path!r},)",
    )
