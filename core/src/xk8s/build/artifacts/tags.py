"""Tags that were looked up again: which digest each of them means here.

A tag is pulled once, and what the cache has is used ever after: with no network, and the same
tomorrow. Only who asks for it gets what the registry has now; its digest is kept in
``<cache>/tags.json``, and plans made from then on name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from xk8s.errors import ArtifactError
from xk8s.image_tags import pinned, remember
from xk8s.progress import Progress
from xk8s.sources import Artifact, OciImage, Recipe

if TYPE_CHECKING:
    from xk8s.build.artifacts.store import Store


def update(artifacts: Iterable[Artifact], store: Store, progress: Progress) -> bool:
    """Ask the registries what the tags of ``artifacts`` (and of what they are made of) mean now.
    True when one has moved since it was pulled: a plan has to be made again then.

    `ArtifactError` when a registry does not answer; nothing has changed then.
    """
    from xk8s.build.artifacts.sources.oci_image import current
    from xk8s.errors import SourceFailed

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
                f"what {tag} refers to now could not be determined: {error}",
                where=tag,
                hint="without --update-tags, the cached image is used",
            ) from error
        finally:
            progress.finish(tag)
        if had != now:
            found[tag] = now
            progress.note(f"{tag} is {now} now; it was {had}")
    if found:
        remember(found)
    return bool(found)


def _images(artifacts: Iterable[Artifact]) -> Iterator[tuple[Artifact, OciImage]]:
    for artifact in artifacts:
        for source in artifact.sources:
            if isinstance(source, OciImage):
                yield artifact, source
            elif isinstance(source, Recipe):
                yield from _images(source.inputs)
