"""`DebPackage`: files out of Debian packages, without touching the host's own apt.

Mirror, proxy and credentials come from the host's apt settings; package lists, downloads and
state live below the cache.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from filelock import FileLock

from xk8s.apt import require_keyring, require_mirror
from xk8s.build.artifacts.attempt import Attempt
from xk8s.errors import BuildError, HostError, SourceFailed
from xk8s.sources import DebPackage, Provenance
from xk8s.util.archives import find_in, piped_tar, unpack_tar
from xk8s.util.files import content_digest, copy_tree
from xk8s.util.paths import cache_lock

FRESH = 24 * 3600.0
"""Seconds for which fetched package lists are used as they are."""

_PROGRAMS = ("apt-get", "dpkg-deb")


def provide(source: DebPackage, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
    """Download the packages of the wanted members and take the files out of them."""
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            raise SourceFailed(f"the program {program} is not installed (not Debian?)")
    if attempt.offline:
        raise SourceFailed("not tried (offline)")
    try:
        # No component but main, and no deb-src: all requested packages are in it.
        line = f"deb [signed-by={require_keyring()} arch=amd64] {require_mirror()}"
    except HostError as error:
        raise SourceFailed(f"{error} (do: {error.hint})") from error
    packages = sorted({source.members[member][0] for member in wanted})
    files = _download(f"{line} {source.suite} main\n", source.suite, packages, attempt)
    given = []
    for package, (version, file) in files.items():
        tree = attempt.work / "packages" / package
        attempt.progress.item(attempt.name, f"unpacking {package}")
        with piped_tar(["dpkg-deb", "--fsys-tarfile", str(file)], name=file.name) as tar:
            unpack_tar(tar, tree, rooted=True, check=attempt.jobs.check)
        for member in sorted(wanted):
            owner, path = source.members[member]
            if owner != package:
                continue
            found = find_in(tree, path)
            if found is None:
                raise SourceFailed(f"{package} {version} has no {path}")
            target = attempt.out / member
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_tree(found, target, link=True)  # two members may be one file
            given.append(
                Provenance(
                    member=member,
                    kind="Debian package",
                    detail=f"{package} {version} ({source.suite})",
                    sha256=content_digest(target),
                )
            )
    return given


def _download(
    archive: str, suite: str, packages: list[str], attempt: Attempt
) -> dict[str, tuple[str, Path]]:
    """Return the packages' files by name, with their versions, in ``attempt.work``."""
    if not re.fullmatch(r"[a-z][a-z0-9.-]*", suite):
        raise SourceFailed(f"{suite!r} is not a suite of Debian")
    debs = attempt.work / "debs"
    debs.mkdir()
    with _apt(archive, suite, attempt) as apt:
        for again in (True, False):
            attempt.progress.item(attempt.name, f"downloading {', '.join(packages)}")
            try:
                attempt.run([*apt, "download", *packages], cwd=debs)
                break
            except BuildError as error:
                if not again:
                    raise SourceFailed(f"apt-get download: {error}", log=error.log) from error
                # The mirror has moved on since the lists were fetched: fetch them again, once.
                _update(apt, attempt)
    found = {}
    for file in sorted(debs.glob("*.deb")):
        name, version, _ = unquote(file.name).rsplit("_", 2)
        found[name] = (version, file)
    missing = set(packages) - set(found)
    if missing:
        raise SourceFailed(f"apt-get returned no file of {', '.join(sorted(missing))}")
    return found


@contextmanager
def _apt(archive: str, suite: str, attempt: Attempt) -> Iterator[list[str]]:
    """The command of a private apt with lists of the suite; exclusive while it is used."""
    lock = FileLock(cache_lock(attempt.cache, f"apt-{suite}"))
    attempt.jobs.acquire(
        lock, lambda: attempt.progress.item(attempt.name, "waiting for package lists")
    )
    try:
        root = attempt.cache / "apt" / suite
        for name in ("lists/partial", "cache/archives/partial", "none"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        sources = root / "sources.list"
        known = sources.exists() and sources.read_text() == archive
        sources.write_text(archive)
        # A file, for only there a list can be cleared: the host's hooks (they remove its own
        # downloads, or wake its software centre) are not for us.
        conf = root / "apt.conf"
        conf.write_text(_configuration(root))
        apt = ["apt-get", "-q", "-c", str(conf)]
        stamp = root / "updated"
        try:
            fresh = time.time() - stamp.stat().st_mtime < FRESH
        except FileNotFoundError:
            fresh = False
        if not (known and fresh):
            _update(apt, attempt)
            stamp.touch()
        yield apt
    finally:
        lock.release()


def _update(apt: list[str], attempt: Attempt) -> None:
    attempt.progress.item(attempt.name, "fetching package lists")
    try:
        # Error-Mode: a failed fetch is an error and not a warning.
        attempt.run([*apt, "update", "-o", "APT::Update::Error-Mode=any"])
    except BuildError as error:
        raise SourceFailed(f"apt-get update: {error}", log=error.log) from error


def _configuration(root: Path) -> str:
    values = {
        "Dir::State": root,
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "status",
        "Dir::Cache": root / "cache",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": root / "none",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": root / "none",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Default-Release": "",
        "APT::Get::List-Cleanup": "true",
        # As root, apt would fetch as _apt, which cannot write into a private cache.
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "15",
        "Acquire::https::Timeout": "15",
    }
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke",
             "APT::Update::Post-Invoke-Success")  # fmt: skip
    lines = [f"#clear {hook};" for hook in hooks]
    lines += ["#clear Acquire::IndexTargets::deb::DEP-11;", "#clear APT::Architectures;"]
    lines += [f'{name} "{value}";' for name, value in values.items()]
    return "\n".join(lines) + "\n"
