"""Tags that were looked up again: which digest each of them means here.

A tag is pulled once, and what the cache has is used ever after: with no network, and the same
tomorrow. Only who asks for it gets what the registry has now; its digest is kept in
``<cache>/tags.json``, and plans made from then on name it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xk8s.artifacts.model import Artifact, OciImage, Recipe
from xk8s.errors import ArtifactError
from xk8s.paths import cache_dir
from xk8s.progress import Progress

if TYPE_CHECKING:
    from xk8s.artifacts.store import Store

FILE = "tags.json"


def pinned(ref: str) -> str:
    """A reference with the digest that its tag was last found to mean, ``name:tag@sha256:…``;
    as it is when it was never looked up again, or has a digest.
    """
    digest = "" if "@" in ref else _read().get(ref, "")
    return f"{ref}@{digest}" if digest else ref


def update(artifacts: Iterable[Artifact], store: Store, progress: Progress) -> bool:
    """Ask the registries what the tags of ``artifacts`` (and of what they are made of) mean now.
    True when one has moved since it was pulled: a plan has to be made again then.

    `ArtifactError` when a registry does not answer; nothing has changed then.
    """
    from xk8s.artifacts.kit import SourceFailed
    from xk8s.artifacts.oci import current

    found: dict[str, str] = {}
    for artifact, source in _images(artifacts):
        tag, _, digest = source.ref.partition("@")
        if digest and pinned(tag) != source.ref:
            continue  # who wrote a digest wants that one
        there = store.cached(artifact)
        had = digest or (there.provenance[0].detail.rpartition(" ")[2] if there else "")
        if not had:
            continue  # will be pulled, and is new then
        progress.item(tag, "asking its registry")
        try:
            now = current(tag)
        except SourceFailed as error:
            raise ArtifactError(
                f"what {tag} is now could not be found out: {error}",
                where=tag,
                hint="without --update-tags the image that is in the cache is used",
            ) from error
        finally:
            progress.finish(tag)
        if had != now:
            found[tag] = now
            progress.note(f"{tag} is {now} now; it was {had}")
    if found:
        _write(found)
    return bool(found)


def _images(artifacts: Iterable[Artifact]) -> Iterator[tuple[Artifact, OciImage]]:
    for artifact in artifacts:
        for source in artifact.sources:
            if isinstance(source, OciImage):
                yield artifact, source
            elif isinstance(source, Recipe):
                yield from _images(source.inputs)


def _read() -> dict[str, str]:
    try:
        return {str(ref): str(digest) for ref, digest in json.loads(_path().read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{_path()} is damaged: {error}", where=str(_path()), hint=f"remove it: rm {_path()}"
        ) from error


def _write(found: dict[str, str]) -> None:
    from filelock import FileLock  # takes long to import, and every plan reads tags

    path = _path()
    (path.parent / "locks").mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / "locks" / "tags.lock"):
        text = json.dumps({**_read(), **found}, indent=1, sort_keys=True)
        temporary = path.with_name(f".{FILE}.new")
        temporary.write_text(text + "\n")
        temporary.replace(path)


def _path() -> Path:
    return cache_dir() / FILE
