"""Settings: what the user asked for, from the command line, environment and xk8s.toml.

A setting is ``<overlay>.<field>``; the core's own overlay name is ``cluster``. Sources in order
of strength: ``-s overlay.field=value``, environment ``XK8S_<OVERLAY>_<FIELD>`` (and the
variable that a setting names itself, such as KUBERNETESD), ``xk8s.toml`` tables, the default.
In a field's name a dot means an underscore: ``kubernetes.apiserver.args`` is
``kubernetes.apiserver_args``, and in TOML the key ``args`` of the table ``[kubernetes.apiserver]``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import Attribute, frozen

from xk8s.errors import UsageError, Xk8sError, nearest
from xk8s.limits import control_character
from xk8s.names.config_file import ConfigFile, read_config
from xk8s.names.convert import convert, is_table, text, type_name
from xk8s.names.request import Request


@frozen(kw_only=True)
class Value:
    """One setting with where it came from ("default", "command line", a variable, a file).
    ``allowed`` says what it may be, beyond its type.
    """

    overlay: str
    name: str
    type: str
    help: str
    allowed: str
    default: Any
    value: Any
    origin: str

    @property
    def key(self) -> str:
        """The key, ``overlay.field``."""
        return f"{self.overlay}.{self.name}"


class Settings:
    """The settings of one request, turned into the overlays' settings classes on demand."""

    def __init__(self, request: Request) -> None:
        """Read the config file; values are validated when their overlay is known."""
        environment = os.environ if request.environment is None else request.environment
        self._environment = dict(environment)
        self._sets = _collect(request.sets)
        self._stored = request.stored is not None
        self._file: Path | str | None = "the cluster's record"
        self._tables: Mapping[str, Mapping[str, Any]]
        self._config: ConfigFile | None = None
        if request.stored is None:
            self._config = read_config(request.config_file)
            self._file = self._config and self._config.path
            self._tables = self._config.tables() if self._config else {}
        else:
            self._tables = request.stored
        self._values: dict[str, tuple[Value, ...]] = {}

    def load(self, overlay: str, cls: type[Any]) -> Any:
        """Return an instance of ``cls``; `UsageError` names the setting, its source and its
        type.
        """
        fields = attrs.fields(attrs.resolve_types(cls))
        types = {attribute.name: attribute.type for attribute in fields}
        table = self._table(overlay, types)
        self._check_keys(overlay, types, table)
        arguments, values = {}, []
        for attribute in fields:
            raws, origin = self._find(overlay, attribute, table)
            value = attribute.default
            if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
                value = value.factory()
            default = value
            if origin != "default":
                value = convert(f"{overlay}.{attribute.name}", raws, attribute.type, origin)
                _check(f"{overlay}.{attribute.name}", value, attribute, origin)
                if self._config and origin == str(self._config.path):
                    guard = attribute.metadata.get("guard")
                    if guard is not None and guard(value):
                        self._config.check_trusted(f"{overlay}.{attribute.name}")
                pin = attribute.metadata.get("pin")
                if pin is not None and not (self._stored and origin == self._file):
                    value = _pin(pin, value, f"{overlay}.{attribute.name}, {origin}")
                arguments[attribute.name] = value
            values.append(
                Value(
                    overlay=overlay,
                    name=attribute.name,
                    type=type_name(attribute.type),
                    help=attribute.metadata.get("help", ""),
                    allowed=limit.text if (limit := attribute.metadata.get("limit")) else "",
                    default=default,
                    value=value,
                    origin=origin,
                )
            )
        self._values[overlay] = tuple(values)
        try:
            return cls(**arguments)
        except (ValueError, TypeError) as error:
            raise UsageError(f"settings of {overlay!r}: {error}") from error

    def values(self) -> tuple[Value, ...]:
        """Return every setting of the overlays loaded so far, by key."""
        found = [value for values in self._values.values() for value in values]
        return tuple(sorted(found, key=lambda value: value.key))

    def check_overlays(self, selected: Mapping[str, object], installed: frozenset[str]) -> None:
        """Raise an error for settings of unknown overlays. Tables of a config file may be for
        installed overlays that are not selected this time.
        """
        for key in self._sets:
            overlay = key.partition(".")[0]
            if overlay not in selected:
                known = [name for name in (*selected,) if name]
                more = "it is installed but not selected" if overlay in installed else ""
                raise UsageError(
                    f"setting {key!r}: no selected overlay is named {overlay!r}",
                    where="command line",
                    hint=more or f"{nearest(overlay, known)}selected are {', '.join(known)}",
                )
        for overlay in self._tables:
            if overlay not in selected and overlay not in installed:
                raise UsageError(
                    f"[{overlay}] is not an installed overlay",
                    where=str(self._file),
                    hint=nearest(overlay, [*selected, *installed]),
                )

    def _find(
        self, overlay: str, attribute: Attribute[Any], table: Mapping[str, tuple[str, Any]]
    ) -> tuple[list[Any], str]:
        key = f"{overlay}.{attribute.name}"
        if key in self._sets:
            return [value for _, value in self._sets[key]], "command line"
        general = f"XK8S_{overlay}_{attribute.name}".upper().replace("-", "_")
        for variable in (general, attribute.metadata.get("env")):
            if variable and self._environment.get(variable):
                return [self._environment[variable]], f"environment {variable}"
        if attribute.name in table:
            return [table[attribute.name][1]], str(self._file)
        return [], "default"

    def _table(self, overlay: str, types: Mapping[str, Any]) -> Mapping[str, tuple[str, Any]]:
        """Return what the file says, by field name: the key as it is written there, and the
        value.
        """
        table = self._tables.get(overlay, {})
        if self._stored:
            return {name: (name, value) for name, value in table.items()}
        found: dict[str, tuple[str, Any]] = {}
        for key, value in _flat(table, types, overlay, str(self._file)):
            name = canonical(key)
            if name in found:
                raise _twice(f"{overlay}.{found[name][0]}", f"{overlay}.{key}", str(self._file))
            found[name] = key, value
        return found

    def _check_keys(
        self, overlay: str, types: Mapping[str, Any], table: Mapping[str, tuple[str, Any]]
    ) -> None:
        given = [
            (name, written[0][0], "command line")
            for key, written in self._sets.items()
            for owner, _, name in [key.partition(".")]
            if owner == overlay
        ]
        given += [(name, f"{overlay}.{key}", str(self._file)) for name, (key, _) in table.items()]
        for name, written_key, origin in given:
            if name not in types:
                hint = f"{nearest(name, types)}{overlay} has: {', '.join(types) or 'none'}"
                for field, type_ in types.items():
                    if is_table(type_) and name.startswith(f"{field}_"):
                        hint = f"write {overlay}.{field}=NAME=VALUE"
                raise UsageError(f"there is no setting {written_key}", where=origin, hint=hint)


def canonical(name: str) -> str:
    """Return the name of the field that a user may write with dots."""
    return name.replace(".", "_")


def _twice(one: str, other: str, where: str) -> UsageError:
    return UsageError(
        f"{one} and {other} are the same setting", where=where, hint="write it only once"
    )


def _flat(
    table: Mapping[str, Any], types: Mapping[str, Any], overlay: str, where: str, above: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a TOML table and of the tables in it, each with its dotted key."""
    for key, value in table.items():
        path = f"{above}{key}"
        name = canonical(path)
        inner = {field for field in types if field.startswith(f"{name}_")}
        if not isinstance(value, Mapping) or (name in types and not inner):
            yield path, value
        elif not is_table(types.get(name)):
            yield from _flat(value, types, overlay, where, f"{path}.")
        elif both := sorted(inner & {f"{name}_{canonical(word)}" for word in value}):
            raise UsageError(
                f"[{overlay}.{path}] may mean {overlay}.{name} or {overlay}.{both[0]}",
                where=where,
                hint=f"write {both[0]} = … in [{overlay}], or {name} = {{ … }}",
            )
        else:
            yield path, value


def _collect(sets: tuple[str, ...]) -> dict[str, list[tuple[str, str]]]:
    """Group by key: each key as it was written, with its value, in the order given."""
    found: dict[str, list[tuple[str, str]]] = {}
    for given in sets:
        written, equals, value = given.partition("=")
        written = written.strip()
        overlay, dot, name = written.partition(".")
        if not equals or not dot:
            raise UsageError(
                f"{given!r} is not a setting",
                where="command line",
                hint="write -s overlay.field=value",
            )
        others = found.setdefault(f"{overlay}.{canonical(name)}", [])
        if others and others[0][0] != written:
            raise _twice(others[0][0], written, "command line")
        others.append((written, value))
    return found


def _check(key: str, value: Any, attribute: Attribute[Any], origin: str) -> None:
    """Raise `UsageError` for a value that no setting, or not this one, may have."""
    if letter := control_character(value):
        raise UsageError(
            f"{key} contains the character {letter!r}",
            where=origin,
            hint="settings are single lines of text, without control characters",
        )
    limit = attribute.metadata.get("limit")
    if limit is not None and (problem := limit.problem(value)):
        shown = repr(value)[:200] if value == "" else text(value)[:200]
        raise UsageError(
            f"{key}={shown} {problem}",
            where=origin,
            hint=f"it takes {limit.text}; see `xk8s explain {key}`",
        )


def _pin(pin: Callable[[Any], Any], value: Any, where: str) -> Any:
    """Return the pinned value; an error says which setting it is about."""
    try:
        return pin(value)
    except Xk8sError as error:
        error.where = f"{where}: {error.where}" if error.where else where
        raise
