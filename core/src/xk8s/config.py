"""Settings: what the user asked for, from the command line, environment and xk8s.toml.

A setting is ``<overlay>.<field>``; the core's own overlay name is ``cluster``. Sources in order
of strength: ``-s overlay.field=value``, environment ``XK8S_<OVERLAY>_<FIELD>`` (and the
variable that a setting names itself, such as KUBERNETESD), ``xk8s.toml`` tables, the default.
"""

from __future__ import annotations

import os
import tomllib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs
from attrs import Attribute, frozen

from xk8s.context import IpFamily
from xk8s.errors import UsageError, Xk8sError
from xk8s.overlay import setting
from xk8s.suggest import nearest

CONFIG_FILE = "xk8s.toml"


@frozen(kw_only=True)
class ClusterSettings:
    """The settings of the core, under the name ``cluster``."""

    nodes: int = setting(2, "Kubernetes nodes: vm-001 is the control plane (and a worker)")
    routers: int = setting(1, "routers: vm-201 and on")
    testers: int = setting(0, "testers outside of the cluster: vm-221 and on")
    memory: dict[str, int] = setting(
        {}, "MiB per role or node: control-plane=3072,worker=1024,router=256,vm-002=2048"
    )
    cpus: dict[str, int] = setting({}, "CPUs per role or node: control-plane=4,vm-002=1")
    ip_family: IpFamily = setting("ipv4", "IP family of pods and services: ipv4, ipv6 or dual")
    accel: Literal["auto", "kvm", "tcg"] = setting("auto", "how QEMU runs guests")
    snapshot: bool = setting(True, "keep a snapshot of the Ready cluster, and restore it")
    mtu: int = setting(1500, "MTU of the cluster's networks, 1280 to 9216")


@frozen(kw_only=True)
class Request:
    """What a command was asked for. ``sets`` are "overlay.field=value" texts, the last one of
    a key counts; ``config_file`` None means ./xk8s.toml where there is one; ``environment``
    None means that of this process.
    """

    overlays: tuple[str, ...]
    name: str = "xk8s"
    sets: tuple[str, ...] = ()
    config_file: Path | None = None
    environment: Mapping[str, str] | None = None
    stored: Mapping[str, Mapping[str, Any]] | None = None


@frozen(kw_only=True)
class Value:
    """One setting with where it came from ("default", "command line", a variable, a file)."""

    overlay: str
    name: str
    type: str
    help: str
    default: Any
    value: Any
    origin: str

    @property
    def key(self) -> str:
        """``overlay.field``."""
        return f"{self.overlay}.{self.name}"


class Settings:
    """All settings of one request, turned into the overlays' settings classes on demand."""

    def __init__(self, request: Request) -> None:
        """Reads the config file; values are checked when their overlay is known."""
        environment = os.environ if request.environment is None else request.environment
        self._environment = dict(environment)
        self._stored = request.stored is not None
        self._sets = dict(_split(text) for text in request.sets)
        self._file: Path | str | None = "the cluster's record"
        self._tables: Mapping[str, Mapping[str, Any]]
        if request.stored is None:
            self._file, self._tables = _read(request.config_file)
        else:
            self._tables = request.stored
        self._values: dict[str, tuple[Value, ...]] = {}

    def load(self, overlay: str, cls: type[Any]) -> Any:
        """An instance of ``cls``; `UsageError` names the setting, its source and its type."""
        table = self._tables.get(overlay, {})
        self._check_keys(overlay, cls, table)
        arguments, values = {}, []
        for attribute in attrs.fields(attrs.resolve_types(cls)):
            raw, origin = self._find(overlay, attribute, table)
            value = attribute.default
            if isinstance(value, attrs.Factory):  # type: ignore[arg-type]
                value = value.factory()
            default = value
            if origin != "default":
                value = _convert(f"{overlay}.{attribute.name}", raw, attribute.type, origin)
                pin = attribute.metadata.get("pin")
                if pin is not None and not self._stored:
                    value = _pin(pin, value, f"{overlay}.{attribute.name}, {origin}")
                arguments[attribute.name] = value
            values.append(
                Value(
                    overlay=overlay,
                    name=attribute.name,
                    type=type_name(attribute.type),
                    help=attribute.metadata.get("help", ""),
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
        """Every setting of the overlays loaded so far, by key."""
        found = [value for values in self._values.values() for value in values]
        return tuple(sorted(found, key=lambda value: value.key))

    def check_overlays(self, selected: Mapping[str, object], installed: frozenset[str]) -> None:
        """A setting of an overlay that is not there is an error, not silence. Tables of a
        config file may be for installed overlays that are not selected this time.
        """
        for key in self._sets:
            overlay = key.split(".", 1)[0]
            if overlay not in selected:
                known = [name for name in (*selected,) if name]
                more = "it is installed but not selected" if overlay in installed else ""
                raise UsageError(
                    f"setting {key!r}: no selected overlay is called {overlay!r}",
                    where="command line",
                    hint=more or f"{nearest(overlay, known)}selected are {', '.join(known)}",
                )
        for overlay in self._tables:
            if overlay not in selected and overlay not in installed:
                raise UsageError(
                    f"[{overlay}] is no installed overlay",
                    where=str(self._file),
                    hint=nearest(overlay, [*selected, *installed]),
                )

    def _find(
        self, overlay: str, attribute: Attribute[Any], table: Mapping[str, Any]
    ) -> tuple[Any, str]:
        key = f"{overlay}.{attribute.name}"
        if key in self._sets:
            return self._sets[key], "command line"
        general = f"XK8S_{overlay}_{attribute.name}".upper().replace("-", "_")
        for variable in (general, attribute.metadata.get("env")):
            if variable and self._environment.get(variable):
                return self._environment[variable], f"environment {variable}"
        if attribute.name in table:
            return table[attribute.name], str(self._file)
        return None, "default"

    def _check_keys(self, overlay: str, cls: type[Any], table: Mapping[str, Any]) -> None:
        known = [attribute.name for attribute in attrs.fields(cls)]
        given = [
            (key.split(".", 1)[1], "command line")
            for key in self._sets
            if key.split(".", 1)[0] == overlay
        ]
        given += [(key, str(self._file)) for key in table]
        for key, origin in given:
            if key not in known:
                raise UsageError(
                    f"there is no setting {overlay}.{key}",
                    where=origin,
                    hint=f"{nearest(key, known)}{overlay} has: {', '.join(known) or 'none'}",
                )


def type_name(type_: Any) -> str:
    """A type as users write about it: "ipv4 | ipv6 | dual", "int", "list of str"."""
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is Literal:
        return " | ".join(str(argument) for argument in arguments)
    if origin in (tuple, list, frozenset):
        return f"list of {type_name(arguments[0])}"
    if origin is dict:
        return f"{type_name(arguments[0])}={type_name(arguments[1])}, …"
    if origin is not None:
        return " or ".join(type_name(argument) for argument in arguments)
    if type_ is type(None):
        return "nothing"
    return getattr(type_, "__name__", str(type_))


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise UsageError(
            f"{text!r} is no setting", where="command line", hint="write -s overlay.field=value"
        )
    return key.strip(), value


def _read(path: Path | None) -> tuple[Path | None, Mapping[str, Mapping[str, Any]]]:
    if path is None:
        path = Path(CONFIG_FILE)
        if not path.exists():
            return None, {}
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not TOML: {error}", where=str(path)) from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"{name!r} stands outside of a table", where=str(path), hint="write [overlay]"
            )
    return path, tables


_converter = cattrs.Converter(forbid_extra_keys=True)
_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _convert(key: str, raw: Any, type_: Any, origin: str) -> Any:
    """Texts (command line, environment) and TOML values to the setting's type."""
    try:
        return _structure(raw, type_)
    except (ValueError, TypeError, KeyError, cattrs.BaseValidationError) as error:
        raise UsageError(
            f"{raw!r} is no value for {key}", where=origin, hint=f"it takes {type_name(type_)}"
        ) from error


def _pin(pin: Callable[[Any], Any], value: Any, where: str) -> Any:
    """The pinned value; an error says which setting it is about."""
    try:
        return pin(value)
    except Xk8sError as error:
        error.where = f"{where}: {error.where}" if error.where else where
        raise


def _structure(raw: Any, type_: Any) -> Any:
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if type(None) in arguments and origin is not Literal:
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if raw in ("", None) else _structure(raw, inner)
    if origin is Literal:
        if raw not in arguments:
            raise ValueError(raw)
        return raw
    if origin in (tuple, list, frozenset):
        items = raw.split(",") if isinstance(raw, str) else raw
        return origin(
            _structure(item.strip() if isinstance(item, str) else item, arguments[0])
            for item in items
            if item != ""
        )
    if origin is dict:
        pairs = raw.items() if isinstance(raw, Mapping) else _pairs(raw)
        return {
            _structure(name, arguments[0]): _structure(value, arguments[1]) for name, value in pairs
        }
    if type_ is bool:
        return raw if isinstance(raw, bool) else _WORDS[str(raw).lower()]
    if type_ in (int, float) and isinstance(raw, bool):
        raise TypeError(raw)
    if type_ is str and not isinstance(raw, str):
        raise TypeError(raw)
    return _converter.structure(raw, type_)


def _pairs(text: str) -> list[tuple[str, str]]:
    found = []
    for item in filter(None, text.split(",")):
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(item)
        found.append((name.strip(), value.strip()))
    return found
