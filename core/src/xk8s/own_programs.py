"""Directories with the user's own builds, as settings: a wrong one is an error and not silence,
since a cluster would run other programs than the ones that its user debugs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from xk8s.errors import UsageError

_USUAL = (".", "bin", "_output/bin", "_output/local/bin/linux/amd64", "build", "dist", "..")


def own_programs(*members: str) -> Callable[[str], str]:
    """Return the ``pin`` (see `xk8s.overlay.setting`) of a directory that has at least one of the
    members: it makes the path absolute. `UsageError` names a directory near it that has one.
    """

    def pin(text: str) -> str:
        if not text:
            return text
        try:
            path = Path(text).expanduser().absolute()
            if any((path / member).exists() for member in members):
                return str(path)
            what = "has none of" if path.is_dir() else "is not a directory with any of"
            if not path.exists():
                what = "does not exist, and so has none of"
            near = next(_near(path, members), None)
        except (OSError, RuntimeError, ValueError) as error:
            raise UsageError(f"cannot read {text[:100]}: {error.args[-1]}") from error
        raise UsageError(
            f"{path} {what} {', '.join(members)}",
            hint=f"did you mean {near}?" if near else "build them first, or leave the setting out",
        )

    return pin


def _near(path: Path, members: tuple[str, ...]) -> Iterator[Path]:
    """Yield directories below and above a path that have one of the members."""
    there = path
    while not there.is_dir() and there != there.parent:
        there = there.parent
    for usual in _USUAL:
        directory = (there / usual).resolve()
        if any((directory / member).is_file() for member in members):
            yield directory


__all__ = ["own_programs"]
