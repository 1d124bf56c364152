"""Resolving artifacts and the inputs of their recipes, several at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.attempt import Resolved
from xk8s.errors import Interrupted, PluginError
from xk8s.progress import Progress
from xk8s.sources import Artifact, Recipe

if TYPE_CHECKING:
    from xk8s.build.artifacts.store import Store

WORKERS = 6
"""Most work waits for the network; Go builds take turns by themselves."""


def resolve(
    store: Store, artifacts: Iterable[Artifact], progress: Progress, *, offline: bool
) -> Mapping[str, Resolved]:
    """Every artifact and what is needed to make it: by key. Inputs of a cached artifact are
    not resolved. See `Store.get_many` for errors.
    """
    known: dict[str, Artifact] = {}
    graph: dict[str, set[str]] = {}
    wanted = [(artifact_key(artifact), artifact) for artifact in artifacts]
    store.read_ahead({key for key, _ in wanted}, progress)
    while wanted:
        key, artifact = wanted.pop()
        if key in graph:
            continue
        known[key] = artifact
        needs = () if store.whole(key) else _inputs(artifact)
        inputs = {artifact_key(needed): needed for needed in needs}
        graph[key] = set(inputs)
        wanted += inputs.items()
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        raise PluginError(f"recipes need each other: {error.args[1]}") from error
    # Permission bits are part of an artifact: they must not depend on the user's umask. It is
    # the process's own, so it is set here and not in each thread.
    umask = os.umask(0o022)
    try:
        return _make(store, known, sorter, progress, offline=offline)
    finally:
        os.umask(umask)


def _make(
    store: Store,
    known: Mapping[str, Artifact],
    sorter: TopologicalSorter[str],
    progress: Progress,
    *,
    offline: bool,
) -> Mapping[str, Resolved]:
    found: dict[str, Resolved] = {}
    if len(known) == 1:
        # In this thread: shorter tracebacks and no pool for the usual single look-up.
        ((key, artifact),) = known.items()
        return {key: store.make(artifact, key, found, progress, offline=offline)}

    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="artifact")
    running: dict[Future[Resolved], str] = {}
    try:
        while sorter.is_active():
            for key in sorter.get_ready():
                future = pool.submit(store.make, known[key], key, found, progress, offline=offline)
                running[future] = key
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                key = running.pop(future)
                found[key] = future.result()
                sorter.done(key)
    except BaseException as error:
        store.jobs.cancel()
        pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, Interrupted):
            # A worker saw the cancelling before we saw its cause.
            for future in running:
                cause = None if future.cancelled() else future.exception()
                if cause is not None and not isinstance(cause, Interrupted):
                    raise cause from None
        raise
    pool.shutdown()
    return found


def _inputs(artifact: Artifact) -> list[Artifact]:
    return [
        needed
        for source in artifact.sources
        if isinstance(source, Recipe)
        for needed in source.inputs
    ]
