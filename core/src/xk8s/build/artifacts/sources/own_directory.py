"""`OwnDirectory`: the user's own builds, by member name; what is missing comes from elsewhere."""

from __future__ import annotations

from pathlib import Path

from xk8s.artifact_keys import file_mode, own_digests
from xk8s.build.artifacts.attempt import Attempt
from xk8s.errors import SourceFailed
from xk8s.sources import OWN_DIRECTORY, OwnDirectory, Provenance
from xk8s.util.files import copy_tree, file_digest, tree_digest


def provide(source: OwnDirectory, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
    """Copy the members that are there (links are followed: build trees are full of them)."""
    root = Path(source.path).expanduser()
    if not root.is_dir():
        raise SourceFailed(f"there is no directory {root}")
    given = []
    for member in sorted(wanted):
        path = root / member
        target = attempt.out / member
        if path.is_dir():
            before = tree_digest(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_tree(path.resolve(), target, link=False)
            after = tree_digest(target)
        elif path.is_file():
            before = own_digests(source, [member])[member].partition(":")[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_tree(path.resolve(), target, link=False)
            target.chmod(file_mode(path))
            after = file_digest(target)
        else:
            continue
        if before != after:
            raise SourceFailed(f"{path} changed while it was copied: is a build still running?")
        given.append(Provenance(member=member, kind=OWN_DIRECTORY, detail=str(path), sha256=after))
    if not given:
        raise SourceFailed(f"{root} has none of: {', '.join(sorted(wanted))}")
    return given
