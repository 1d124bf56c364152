"""The place where comparisons run: a state of their own, beside that of the user's clusters.

STATE/.bench and RUNTIME/.bench (no cluster has such a name) are there as long as a bench runs;
what a killed one left is swept by the next. The cache of artifacts and layers is the user's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import filelock
from attrs import frozen
from xk8s.cluster.down import down
from xk8s.cluster.state.snapshot_places import forget_snapshots
from xk8s.errors import StateError
from xk8s.names.request import Request
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.progress import Progress, Silent
from xk8s.util.paths import cache_dir, clusters_dir, make_private, runtime_root

NAME = "bench"
"""Name of every cluster that is measured: only one exists at a time."""

_PLACE = ".bench"


@frozen(kw_only=True)
class Lab:
    """What series are run with. ``request`` has the user's overlays and settings; ``counts`` the
    numbers of nodes that are compared; ``scratch`` is an empty directory; what is put on
    ``held`` is closed when all is over.
    """

    request: Request
    progress: Progress
    counts: tuple[int, ...]
    scratch: Path
    held: ExitStack

    def plan(self, *sets: str) -> Plan:
        """Return the request with other settings on top."""
        return make_plan(
            attrs.evolve(self.request, name=NAME, sets=(*self.request.sets, *sets)), online=True
        )

    def plan_of_nodes(
        self, count: int, *sets: str, overlays: tuple[str, ...] | None = None
    ) -> Plan:
        """Return the request for a cluster of so many nodes, without a router unless the user asked
        for some (overlays may need one). ``overlays`` in place of the request's have no setting of
        the user's but those of the core.
        """
        request, before = self.request, ("cluster.routers=0",)
        own = request.sets
        if overlays is not None:
            own = tuple(setting for setting in own if setting.startswith("cluster."))
        after = (f"cluster.nodes={count}", "cluster.testers=0")
        return make_plan(
            attrs.evolve(
                request,
                name=NAME,
                overlays=overlays or request.overlays,
                sets=(*before, *own, *after, *sets),
            ),
            online=True,
        )

    def words(self) -> tuple[str, ...]:
        """Return the request as words of a command line, behind ``xk8s up``."""
        request = self.request
        sets = (word for setting in request.sets for word in ("-s", setting))
        file = () if request.config_file is None else ("--config", str(request.config_file))
        return (*request.overlays, *sets, *file)

    @property
    def inner(self) -> Progress:
        """Progress within a run: only what is happening at the moment is shown."""
        return _Inner(self.progress)

    def down(self) -> None:
        """End whatever a run left."""
        down(NAME, Silent())


class _Inner(Silent):
    def __init__(self, outer: Progress) -> None:
        self._outer = outer

    def item(self, key: str, text: str, *, done: int = 0, total: int = 0) -> None:
        self._outer.item(key, text, done=done, total=total)

    def finish(self, key: str) -> None:
        self._outer.finish(key)


@contextmanager
def laboratory(request: Request, progress: Progress, *, counts: tuple[int, ...]) -> Iterator[Lab]:
    """A laboratory, empty before and after. `StateError` when another bench is at work: they
    would measure each other.
    """
    state = clusters_dir().parent.absolute() / _PLACE
    runtime = make_private(runtime_root()).absolute() / _PLACE
    lock = filelock.FileLock(runtime.with_name(f"{_PLACE}.lock"), mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise StateError(
            "another `xk8s bench` is at work: they would measure each other",
            where=lock.lock_file,
            hint="wait for it, or end it",
        ) from None
    try:
        with _environment({"XK8S_STATE": str(state), "XK8S_RUNTIME": str(runtime)}):
            _sweep(state, runtime)
            try:
                scratch = make_private(make_private(state) / "scratch")
                with ExitStack() as held:
                    yield Lab(
                        request=request,
                        progress=progress,
                        counts=counts,
                        scratch=scratch,
                        held=held,
                    )
            finally:
                _sweep(state, runtime)
    finally:
        lock.release()


def _sweep(state: Path, runtime: Path) -> None:
    down(NAME, Silent())
    forget_snapshots(cache_dir())
    for directory in (state, runtime):
        if directory.exists():
            shutil.rmtree(directory)


@contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    """Paths are looked up in the environment, here and in commands that are started."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
