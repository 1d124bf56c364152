"""The plugins that the user allows, and how long one may take."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xk8s.errors import UsageError, Xk8sError
from xk8s.names.config_file import read_config

if TYPE_CHECKING:
    from xk8s.names.request import Request


class Policy(NamedTuple):
    """What the user lets plugins do. ``allow`` are patterns of distribution names, ``origin`` says
    where they come from; ``timeout`` is how many seconds a plugin may take to be imported or to
    answer a hook, 0 for no limit.
    """

    allow: tuple[str, ...] = ("*",)
    origin: str = "default"
    timeout: float = 60.0

    def allows(self, distribution: str) -> bool:
        """Return whether plugins of that distribution may be imported."""
        name = canonical(distribution)
        return any(fnmatchcase(name, canonical(pattern)) for pattern in self.allow)


def canonical(name: str) -> str:
    """Return a distribution's name in the form in which all spellings are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def policy(request: Request | None = None) -> Policy:
    """Return what the user lets plugins do now: the settings ``plugins.…`` of a request, or without
    one (or for one that was kept with a cluster) those of the environment and ./xk8s.toml.

    Raises `UsageError` for a setting that is wrong.
    """
    all_sets = request.sets if request else ()
    sets = tuple(text for text in all_sets if text.lstrip().startswith("plugins."))
    own = request if request is not None and request.stored is None else None
    environment = os.environ if own is None or own.environment is None else own.environment
    file = own.config_file if own else None
    given = sets or any(name.startswith("XK8S_PLUGINS_") for name in environment)
    if not given and not _mentioned(file):
        return Policy()
    from xk8s.names.core_settings import PluginSettings
    from xk8s.names.request import Request
    from xk8s.names.settings import Settings

    settings = Settings(Request(overlays=(), sets=sets, config_file=file, environment=environment))
    found: PluginSettings = settings.load("plugins", PluginSettings)
    origin = {value.name: value.origin for value in settings.values()}["allow"]
    return Policy(allow=found.allow, origin=origin, timeout=found.timeout)


def _mentioned(path: Path | None) -> bool:
    """Return whether the file may mention plugins; others report what is wrong with it."""
    try:
        config = read_config(path)
        return config is not None and "plugins" in config.tables()
    except UsageError:
        return True


def careful_policy() -> Policy:
    """Return the same as `policy`; if it cannot be determined, nothing is allowed, and the reason
    is its origin.
    """
    try:
        return policy()
    except Xk8sError as error:
        return Policy(allow=(), origin=f"{error.where}: {error}")
