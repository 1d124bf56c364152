"""The stores of podman, buildah and CRI-O on this machine (containers-storage).

Which image a name means is read from the store's own index, without a program; skopeo, which
knows how to put layers together again, copies the image when it is needed.
https://github.com/containers/storage/blob/main/docs/containers-storage.conf.5.md
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xk8s.errors import HostError, UsageError

from xk8s_images.reference import full_ref

_STORE = re.compile(r"(\[[^\]]*\])?(.*)", re.DOTALL)
_INDEX = "*-images/images.json"
"""Index below a store's root; the star is the storage driver."""


def split(text: str) -> tuple[str, str]:
    """Return the store, as skopeo writes it (``[driver@graphroot+runroot]``, or ""), and
    the name.
    """
    match = _STORE.fullmatch(text)
    assert match is not None
    return match[1] or "", match[2]


def find(store: str, name: str) -> tuple[str, str]:
    """Return the full name under which the store has an image, and its ID, ``sha256:…``.

    A short name is also tried as localhost/name, which is what podman calls the images it
    builds. `UsageError` if there is none, `HostError` if the store cannot be read.
    """
    wanted = [full_ref(name)]
    if "/" not in name:
        wanted.append(full_ref(f"localhost/{name}"))
    roots = list(_roots(store))
    known: list[str] = []
    for root in roots:
        for image in _images(root):
            names = image.get("names") or ()
            known += names
            for ref in wanted:
                if ref in names:
                    return ref, f"sha256:{image['id']}"
    raise UsageError(
        f"there is no image {name} in the local store",
        where=", ".join(str(root) for root in roots),
        hint=f"it has {', '.join(sorted(set(known))[:8])}" if known else "it has no images",
    )


def _images(root: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(root.glob(_INDEX)):
        try:
            yield from json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise HostError(
                f"the local image store cannot be read: {error}", where=str(path)
            ) from error


def _roots(store: str) -> Iterator[Path]:
    """Return the directories of the store, and of those that it also reads."""
    if store:
        yield Path(store.strip("[]").rpartition("@")[2].partition("+")[0])
        return
    settings, its_own = _settings()
    storage = settings.get("storage", {})
    if os.geteuid() == 0 or its_own:
        graph = storage.get("graphroot")
    else:
        graph = storage.get("rootless_storage_path")
    if graph:
        for word, value in (("$HOME", str(Path.home())), ("$UID", str(os.getuid())),
                            ("$USER", os.environ.get("USER", ""))):  # fmt: skip
            graph = graph.replace(word, value)
        yield Path(graph)
    elif os.geteuid() == 0:
        yield Path("/var/lib/containers/storage")
    else:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        yield Path(data) / "containers" / "storage"
    for root in storage.get("options", {}).get("additionalimagestores", ()):
        yield Path(root)


def _settings() -> tuple[dict[str, Any], bool]:
    """Return storage.conf, the first one that exists, and whether it is this user's own."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [(Path("/etc/containers/storage.conf"), False),
              (Path("/usr/share/containers/storage.conf"), False)]  # fmt: skip
    if os.geteuid() != 0:
        places.insert(0, (config / "containers" / "storage.conf", True))
    if given := os.environ.get("CONTAINERS_STORAGE_CONF"):
        places = [(Path(given), True)]
    for path, its_own in places:
        try:
            return tomllib.loads(path.read_text()), its_own
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise HostError(f"it cannot be read: {error}", where=str(path)) from error
    return {}, False
