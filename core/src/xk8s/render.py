"""Files from a plugin's package data, rendered if they are templates.

A plugin keeps its guest files below ``<package>/files/<directory>/`` in the layout they have in
the guest. A file whose name ends in ``.j2`` is a Jinja template (undefined names are errors) and
loses that ending. Templates see ``ctx``, the caller's variables and ``patch(point)``: the text
fragments that other overlays contributed to that point, a line each.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

import jinja2

from xk8s.context import Context
from xk8s.errors import PluginError
from xk8s.overlay import File

_PROGRAM_DIRS = ("/usr/bin/", "/usr/sbin/", "/usr/local/", "/usr/libexec/", "/usr/lib/xk8s/")
"""Wheels and git checkouts do not both keep the x bit, so the location decides."""


def render_tree(
    package: str, directory: str, ctx: Context, **variables: object
) -> tuple[File, ...]:
    """Return all files below ``files/<directory>`` of ``package``, sorted by path.

    Raises `PluginError` naming the template and line for an undefined name or bad syntax.
    """
    root = files(package).joinpath("files", directory)
    if not root.is_dir():
        raise PluginError(f"no directory files/{directory}", where=package)
    found = []
    for path, source in sorted(_walk(root, ""), key=lambda pair: pair[0]):
        data = source.read_bytes()
        if path.endswith(".j2"):
            path = path.removesuffix(".j2")
            data = _render(package, f"{directory}{path}", data.decode(), ctx, variables).encode()
        mode = 0o755 if path.startswith(_PROGRAM_DIRS) else 0o644
        found.append(File(path=path, data=data, mode=mode))
    return tuple(found)


def render_text(package: str, name: str, ctx: Context, **variables: object) -> str:
    """Return a template ``files/<name>`` of ``package`` as text; errors as for `render_tree`."""
    source = files(package).joinpath("files", *name.split("/")).read_text()
    return _render(package, name, source, ctx, variables)


def _walk(directory: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for child in directory.iterdir():
        path = f"{prefix}/{child.name}"
        if child.is_dir():
            yield from _walk(child, path)
        elif not child.name.endswith((".pyc", "~")):
            yield path, child


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the results are configuration files, not HTML
    )


def _render(
    package: str, name: str, source: str, ctx: Context, variables: dict[str, object]
) -> str:
    def patch(point: str) -> str:
        return "\n".join(ctx.fragments(point, str))

    try:
        template = _environment().from_string(source)
        return template.render(ctx=ctx, patch=patch, **variables)
    except (jinja2.TemplateError, TypeError) as error:
        line = getattr(error, "lineno", None)
        where = f"{package}: files/{name}" + (f" line {line}" if line else "")
        raise PluginError(f"template: {error}", where=where) from error
