"""A new overlay, as a distribution of its own: made from the template that is in this package."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from xk8s.errors import HostError, UsageError
from xk8s.names.discovery import CORE, builtin_verbs
from xk8s.names.registry import available

SUFFIX = ".jinja"
"""Of files of the template whose content is a Jinja template. copier.yml says the same."""

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


def check_overlay_name(name: str, *, again: bool = False) -> str:
    """Return the name itself, or `UsageError`; ``again``: one that is installed will do."""
    if not _NAME.fullmatch(name) or "--" in name:
        raise UsageError(
            f"{name!r} is not a name for an overlay",
            where="command line",
            hint="use 1 to 32 lower-case letters, digits and dashes, a letter first: "
            f"{_nearest_name(name)}",
        )
    if name in CORE or name in builtin_verbs():
        what = "the name of settings of xk8s itself" if name in CORE else "a verb of xk8s"
        raise UsageError(
            f"{name!r} is {what}", where="command line", hint=f"use another name, e.g. my-{name}"
        )
    for offer in available():
        if offer.name == name and not again:
            raise UsageError(
                f"an overlay {name!r} is already installed",
                where=f"distribution {offer.distribution} {offer.version}",
                hint=f"use another name, e.g. my-{name}; or --overwrite, if it is yours",
            )
    return name


def make_overlay(name: str, directory: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write the distribution ``xk8s-<name>`` into ``directory``; the paths written, sorted.

    Either all of it is written or, when a file is in the way and ``overwrite`` is not given, none:
    `UsageError` says which. Other files in the directory stay as they are. `HostError` when the
    directory cannot be written.
    """
    check_overlay_name(name, again=overwrite)
    with tempfile.TemporaryDirectory(prefix="xk8s-new-") as scratch:
        made = Path(scratch) / "made"
        _render(name, made)
        found = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
        _check_room(directory, found, overwrite=overwrite)
        _put(made, directory, found)
    return tuple(directory / path for path in found)


def _render(name: str, made: Path) -> None:
    """Render the template as `copier copy` would: names of files and directories are templates,
    and so is what is in files that end in `SUFFIX`.
    """
    answers = {
        "name": name,
        "package": f"xk8s_{name.replace('-', '_')}",
        "distribution": f"xk8s-{name}",
        "version": version("xk8s"),
    }
    # Not HTML; and a name that the template misspells must not become an empty text.
    jinja = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    with as_file(files("xk8s.scaffold") / "template" / "template") as template:
        for source in sorted(path for path in template.rglob("*") if path.is_file()):
            relative = source.relative_to(template).as_posix()
            target = made / jinja.from_string(relative.removesuffix(SUFFIX)).render(answers)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text()
            if relative.endswith(SUFFIX):
                text = jinja.from_string(text).render(answers)
            target.write_text(text)


def _put(made: Path, directory: Path, found: list[Path]) -> None:
    """Write all files, or none: each is beside its place before the first one takes it."""
    is_new = not directory.exists()
    ready: list[tuple[Path, Path]] = []
    try:
        for path in found:
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f".{target.name}.xk8s-new")
            ready.append((beside, target))
            beside.write_bytes((made / path).read_bytes())
        for beside, target in ready:
            beside.replace(target)  # of a link, the link: what it leads to is somebody else's
    except OSError as error:
        for beside, _ in ready:
            with contextlib.suppress(OSError):
                beside.unlink()
        if is_new:
            shutil.rmtree(directory, ignore_errors=True)
        raise HostError(
            f"cannot write {error.filename or directory}: {error.strerror}",
            where=str(directory),
            hint="free disk space, or name a directory that you may write to: --directory DIR",
        ) from error


def _check_room(directory: Path, found: list[Path], *, overwrite: bool) -> None:
    """Check that nothing is in the way."""
    for path in found:
        for parent in (*reversed(path.parents), path):
            target = directory / parent
            is_file = parent == path
            if not target.is_symlink() and not target.exists():
                continue
            if is_file and target.is_dir() and not target.is_symlink():
                raise _in_the_way(target, "it is a directory")
            if not is_file and not target.is_dir():
                raise _in_the_way(target, "it is not a directory")
    old = [path for path in found if (directory / path).is_symlink() or (directory / path).exists()]
    if old and not overwrite:
        more = f" and {len(old) - 3} more" if len(old) > 3 else ""
        raise UsageError(
            f"{', '.join(map(str, old[:3]))}{more} would be overwritten",
            where=str(directory),
            hint="choose another directory with --directory DIR, or say --overwrite",
        )


def _in_the_way(target: Path, why: str) -> UsageError:
    return UsageError(
        f"{target} is in the way: {why}",
        where="command line",
        hint="choose another directory with --directory DIR",
    )


def _nearest_name(name: str) -> str:
    """A name that would do, made of a bad one."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())[:32].strip("-").lstrip("0123456789-")
    return plain or "my-overlay"
