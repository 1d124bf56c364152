"""Whether an image in the cache is what was written: its description has its sum.

<cache>/layers/<key>.erofs      the image
<cache>/layers/<key>.json       its description
<cache>/layers/<key>.compared   that both were compared since this machine was started
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xk8s.util import intact
from xk8s.util.files import write_atomic
from xk8s.util.sparse import content_sum


def description(image: Path) -> Path:
    """Return the file with an image's description."""
    return image.with_suffix(".json")


def mark(image: Path) -> Path:
    """Return the file that says that it was compared."""
    return image.with_suffix(f".{intact.MARK}")


def describe(made: Path, image: Path, document: Mapping[str, Any]) -> None:
    """Write the description of a finished image that will have the name ``image``."""
    found = {"size": made.stat().st_size, "content": content_sum(made)}
    sealed = intact.seal({**document, **found})
    write_atomic(description(image), sealed)


def read(image: Path) -> dict[str, Any]:
    """Return what is known of an image: nothing when the description is damaged."""
    try:
        document = intact.unseal(description(image).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if all(_fits(*item) for item in document.items()) else {}


def _fits(name: str, value: object) -> bool:
    match name:
        case "roles" | "artifacts":
            return isinstance(value, list) and all(isinstance(text, str) for text in value)
        case "name" | "overlay" | "content":
            return isinstance(value, str)
        case "size":
            return isinstance(value, int)
    return True  # of another version


def damage(image: Path) -> str | None:
    """Return what is wrong with an existing image, in words, or None; it is read once per
    start of the machine, its description always.
    """
    known = read(image)
    if "content" not in known or "size" not in known:
        return "its description is damaged, or has no checksum"

    def compare() -> str | None:
        # A hole is nothing to the sum, and much to a guest: its disk is that large.
        matches = (image.stat().st_size, content_sum(image)) == (known["size"], known["content"])
        return None if matches else "its content does not match its checksum"

    return intact.damage(mark(image), [image], compare)


def is_compared(image: Path) -> bool:
    """Return whether `damage` need not read it."""
    return intact.is_compared(mark(image), [image])


def note_compared(image: Path) -> None:
    """Remember that it has just been written."""
    intact.note_compared(mark(image), [image])


def remove(image: Path) -> None:
    """Remove it. In this order: where there is an image there is its description."""
    for path in (image, description(image), mark(image)):
        path.unlink(missing_ok=True)
