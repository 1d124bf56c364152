"""Pages and pictures generated from the code: ``python tools/docs pages [--check] DOCS``.

Only overlays of the same repository are described, so that what else is installed does not
change the pages.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from xk8s import errors, hookspecs
from xk8s.cli import app
from xk8s.cli.errors import EXIT_PIPE, EXIT_UNEXPECTED
from xk8s.errors import Xk8sError
from xk8s.faults.core import CORE_FAULTS
from xk8s.names.convert import text, type_name
from xk8s.names.core_settings import CORE_SETTINGS
from xk8s.names.registry import Registry

from tools.docs import pictures, points, values
from tools.docs.markdown import markdown, row

MADE = "<!-- Made by python tools/docs pages: change the code, not this page. -->"
WIDTH = 90


def exit_codes() -> str:
    """Return every exit code with its meaning."""
    family: list[type[Xk8sError]] = [Xk8sError, *_subclasses(Xk8sError)]
    public = {
        error.exit_code: error for error in reversed(family) if error.__module__ == errors.__name__
    }
    rows = [(0, "", "Success; for `up` and `check`: all checks passed.")]
    rows += [(code, error.__name__, _first(error)) for code, error in public.items()]
    rows += [
        (EXIT_UNEXPECTED, "", "A bug in xk8s. The message names a file with the traceback."),
        (EXIT_PIPE, "", "Whoever read the output went away, as in `xk8s plan … | head`."),
    ]
    lines = [row(str(code), kind and f"`{kind}`", what) for code, kind, what in sorted(rows)]
    return _page(
        "Exit codes",
        "`xk8s exec` and `xk8s net exec` exit with the code of their command; all others with:",
        "| code | kind | meaning |\n| --- | --- | --- |\n" + "\n".join(lines),
        "The kind is what `--json` errors (one JSON object on stderr, below `error`) call `kind`; "
        "beside it are `message`, `where`, `do`, `log`, `hints` and `exit_code`.",
    )


def verbs(distributions: frozenset[str]) -> str:
    """Return the help of every verb."""
    sections = [_help(app.xk8s, "xk8s")]
    for name in app.VERBS:
        command = app.xk8s.get_command(click.Context(app.xk8s), name)
        assert command is not None
        sections += _command(command, f"xk8s {name}")
    for name, offer in sorted(app.plugin_commands().items()):
        if offer.distribution in distributions:
            sections += _command(app.load_command(offer), f"xk8s {name}")
    return _page("Verbs", *sections)


def settings(distributions: frozenset[str]) -> str:
    """Return every setting of the core and of the repository's overlays."""
    registry = Registry()
    classes: dict[str, type[Any]] = dict(CORE_SETTINGS)
    for offer in registry.offers:
        if offer.distribution in distributions:
            cls = registry.overlay(offer.name).settings
            if cls is not None:
                classes[offer.name] = cls
    sections = [
        "Set with `-s overlay.key=value`, by the environment variable `XK8S_OVERLAY_KEY` (or the "
        "one named below), or in the file `xk8s.toml`; the first of these that is present counts. "
        "`xk8s explain overlay.key` shows what is in force and why. A dot in a key is an "
        "underscore: `kubernetes.apiserver.args` is `kubernetes.apiserver_args`."
    ]
    for overlay, cls in classes.items():
        rows = [_setting(attribute) for attribute in attrs.fields(attrs.resolve_types(cls))]
        head = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n"
        sections.append(f"## {overlay}\n\n{head}" + "\n".join(rows))
    return _page("Settings", *sections)


def hooks() -> str:
    """Return every hook with its signature and description."""
    sections = [markdown(inspect.getdoc(hookspecs) or "")]
    for name, function in vars(hookspecs).items():
        if name.startswith("xk8s_") and inspect.isfunction(function):
            signature = str(inspect.signature(function)).replace("'", "")
            sections.append(f"## {name}\n\n```python\ndef {name}{signature}\n```")
            sections.append(markdown(inspect.getdoc(function) or ""))
    return _page("Hooks", *sections)


def faults(distributions: frozenset[str]) -> str:
    """Return every fault that the core and the repository's overlays recognise."""
    registry = Registry()
    tables = {
        offer.name: registry.hooks.faults(offer.name)
        for offer in registry.offers
        if offer.distribution in distributions and registry.overlay(offer.name)
    }
    sections = [
        "Known faults are shown by `xk8s up` and `xk8s check` below the log if something failed, "
        "by `xk8s check --faults` for a running cluster, and by `xk8s report` at the top. A "
        "line of a log counts for the first fault it matches; overlays that build on others come "
        "first. Faults marked *passing* also appear briefly in good starts: they are reported only "
        "while they last."
    ]
    for overlay, table in [*reversed(tables.items()), ("the core", CORE_FAULTS)]:
        if not table:
            continue
        lines = [f"## {overlay}"]
        for fault in table:
            passing = " (*passing*)" if fault.transient else ""
            seen = "\n".join(fault.examples)
            lines += [
                f"### {fault.name}{passing}",
                f"```text\n{seen}\n```",
                f"{_named(fault.cause)}.",
                f"Do: {_named(fault.remedy, first=False)}.",
            ]
        sections += lines
    return _page("Faults", *sections)


def pages(repository: Path) -> Mapping[str, Callable[[], str]]:
    """Map file names below docs to the functions that return their text."""
    distributions = frozenset(_names(repository))
    made = {
        "exit-codes.md": exit_codes,
        "faults.md": lambda: faults(distributions),
        "hooks.md": hooks,
        "points.md": lambda: _page("Points", *points.sections(distributions)),
        "verbs.md": lambda: verbs(distributions),
        "settings.md": lambda: settings(distributions),
        "values.md": lambda: _page("Values", *values.sections()),
    }
    return {
        **{f"reference/{name}": make for name, make in made.items()},
        **{f"pictures/{name}": make for name, make in pictures.pictures().items()},
    }


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which of them are stale (exit code 1)."""
    check = "--check" in arguments
    directories = [Path(argument) for argument in arguments if argument != "--check"]
    docs = (directories or [Path("docs")])[0].resolve()
    stale = 0
    for name, make in pages(docs.parent).items():
        path = docs / name
        content = make()
        if path.exists() and path.read_text() == content:
            continue
        stale += 1
        if check:
            print(f"{path} is stale: run python tools/docs pages", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            print(path)
    return 1 if check and stale else 0


# --- parts ------------------------------------------------------------------------------


def _page(title: str, *sections: str) -> str:
    return "\n\n".join((f"# {title}", MADE, *(section.strip() for section in sections))) + "\n"


def _subclasses(cls: type[Xk8sError]) -> Iterator[type[Xk8sError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _first(cls: type[Xk8sError]) -> str:
    if cls is Xk8sError:
        return "Any other error that xk8s raises on purpose."
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _names(repository: Path) -> Iterator[str]:
    for path in repository.glob("plugins/*/pyproject.toml"):
        yield tomllib.loads(path.read_text())["project"]["name"]


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH,
                            help_option_names=["-h", "--help"])  # fmt: skip
    if command is app.xk8s:
        # The verbs of other overlays are not part of this page.
        plain = click.Command(None, params=command.params, help=command.help,
                              options_metavar="[OPTIONS] VERB …")  # fmt: skip
        lines = plain.get_help(context)
    else:
        lines = command.get_help(context)
    return "```text\n" + "\n".join(line.rstrip() for line in lines.splitlines()) + "\n```"


def _command(command: click.Command, name: str) -> list[str]:
    found = [f"## {name}", _help(command, name)]
    if isinstance(command, click.Group):
        for sub, child in sorted(command.commands.items()):
            found += [f"### {name} {sub}", _help(child, f"{name} {sub}")]
    return found


def _setting(attribute: attrs.Attribute[Any]) -> str:
    default: Any = attribute.default
    if hasattr(default, "factory"):
        default = default.factory()
    meaning = attribute.metadata.get("help", "")
    if variable := attribute.metadata.get("env"):
        meaning += f" (environment `{variable}`)"
    if limit := attribute.metadata.get("limit"):
        meaning += f"; {limit.text}"
    cells = [f"`{attribute.name}`", type_name(attribute.type), f"`{text(default)}`", meaning]
    return row(*cells)


def _named(text: str, *, first: bool = True) -> str:
    """Replace what is filled in from the log by a word in capitals; ``first``: the text begins a
    line.
    """
    words = re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), text)
    return words[0].upper() + words[1:] if first else words
