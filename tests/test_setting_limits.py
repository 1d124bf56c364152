"""What settings may be: every one of the core and of every overlay says it, a plan refuses anything
else at once, and no value changes more of a unit file or a configuration than its own place.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
import typing
from collections.abc import Iterator
from typing import Any, Literal

import attrs
import pytest
import yaml
from xk8s.errors import UsageError
from xk8s.names.core_settings import CORE_SETTINGS
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.names.settings import Settings
from xk8s.overlay import File
from xk8s.planning.plan import Plan
from xk8s.testing.plans import plan_of

from tests.test_overlays_conform import OVERLAYS

UNLIMITED = {
    "images.refs": "each is looked up and kept with its digest (`pin`)",
    "images.build": "each is read and kept with its digest (`pin`)",
}
"""Settings that have neither a choice, nor a limit, nor a directory that is looked into."""

SETS = {
    "multinet": ("cluster.node_networks=1,2",),
    "cluster": (),
    "plugins": (),
}
WITH = {"cluster": ("debian",), "plugins": ("debian",), "etcd": ("kubernetes",)}


def settings() -> Iterator[tuple[str, attrs.Attribute[Any]]]:
    registry = Registry()
    classes = dict(CORE_SETTINGS) | {
        name: cls for name in OVERLAYS if (cls := registry.overlay(name).settings)
    }
    for overlay, cls in classes.items():
        for attribute in attrs.fields(attrs.resolve_types(cls)):
            yield f"{overlay}.{attribute.name}", attribute


EVERY = dict(settings())


def is_choice(type_: Any) -> bool:
    return type_ is bool or typing.get_origin(type_) is Literal


@pytest.mark.parametrize("key", EVERY)
def test_every_setting_says_what_it_may_be(key: str) -> None:
    attribute = EVERY[key]
    said = is_choice(attribute.type) or any(attribute.metadata.get(how) for how in ("limit", "pin"))
    assert said != (key in UNLIMITED and not attribute.metadata.get("pin")), key
    if attribute.metadata.get("pin") and not attribute.metadata.get("limit"):
        assert key in UNLIMITED or key.endswith("dir"), key


@pytest.mark.parametrize("key", EVERY)
def test_the_default_of_every_setting_is_allowed(key: str) -> None:
    attribute = EVERY[key]
    default = attribute.default
    if hasattr(default, "factory"):
        default = default.factory()
    limit = attribute.metadata.get("limit")
    assert limit is None or limit.problem(default) is None


def planned(*sets: str, overlays: tuple[str, ...] = ("kubernetes",)) -> Plan:
    return plan_of(("debian", *overlays), *sets)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("kubernetes.host_port=99999", "0 to 65535"),
        ("kubernetes.host_port=-1", "0 to 65535"),
        ("kubernetes.log_level=-1", "0 to 10"),
        ("kubernetes.pod_mtu=99999", "576 to 9216"),
        ("kubernetes.pod_mtu=-5", "576 to 9216"),
        ("kubernetes.service_cidr_ipv4=x", "an IPv4 prefix"),
        ("kubernetes.pod_cidr_ipv4=11.0.0.5/16", "an IPv4 prefix"),
        ("kubernetes.pod_cidr_ipv4=::/0", "an IPv4 prefix"),
        ("kubernetes.pod_cidr_ipv6=11.0.0.0/16", "an IPv6 prefix"),
        ("kubernetes.pod_cidr_ipv4=11.0.0.0/24", "an IPv4 prefix"),
        ("kubernetes.cluster_domain=Not A Name", "a DNS name"),
        ("kubernetes.version=latest", "a release"),
        ("kubernetes.feature_gates=a b=true", "names of gates"),
        ("kubernetes.runtime_config=api/all=maybe", "true or false"),
        ("kubernetes.controllers=*,rm -rf", "NAME"),
        ("etcd.size=banana", "a size from 256M to 64G"),
        ("etcd.size=1M", "a size from 256M to 64G"),
        ("etcd.size=50%", "a size from 256M to 64G"),
        ("etcd.version=3", "a release"),
        ("containerd.version=1.7.0", "2.0.0 or later"),
        ("coredns.version=", "a release"),
        ("coredns.replicas=-3", "1 to 250"),
        ("mconnect.replicas=-3", "1 to 1000"),
        ("mconnect.vip4=foo", "an IPv4 address"),
        ("mconnect.vip6=10.0.0.2", "an IPv6 address"),
        ("externalip.ipv4=10.0.0.0", "an IPv4 prefix"),
        ("flannel.port=65536", "1 to 65535"),
        ("flannel.vni=-1", "1 to 16777215"),
        ("frr.hold=1", "3 to 65535"),
        ("frr.nodes_as=0", "1 to 4294967294"),
        ("frr.anycast=nowhere", "an IP address"),
        ("debian.suite=../x", "the name of a release"),
        ("cluster.nodes=201", "1 to 200"),
        ("cluster.mtu=9217", "1280 to 9216"),
        ("cluster.snapshot_size=-1", "0 to"),
        ("cluster.memory=worker=104857600", "128 to 4194304"),
        ("cluster.memory=worker=64", "128 to 4194304"),
        ("cluster.cpus=worker=65", "1 to 64"),
        ("plugins.timeout=-1", "0 to 86400"),
    ],
)
def test_what_cannot_work_is_refused_as_a_plan(text: str, allowed: str) -> None:
    key, _, value = text.partition("=")
    overlay = key.partition(".")[0]
    with pytest.raises(UsageError) as caught:
        planned(text, overlays=WITH.get(overlay, (overlay,)))
    shown = str(caught.value)
    assert shown.startswith(f"{key}={value}" if value else f"{key}=''"), shown
    assert allowed in (caught.value.hint or ""), caught.value.hint
    assert caught.value.where == "command line"


@pytest.mark.parametrize(
    ("sets", "names"),
    [
        (("kubernetes.pod_cidr_ipv4=10.96.0.0/16",), ("pod_cidr_ipv4", "service_cidr_ipv4")),
        (("kubernetes.pod_cidr_ipv4=192.168.0.0/16",), ("pod_cidr_ipv4", "network 0")),
        (("kubernetes.service_cidr_ipv4=192.168.1.0/24",), ("service_cidr_ipv4", "network 1")),
        (
            ("cluster.ip_family=ipv6", "kubernetes.pod_cidr_ipv6=1000::/64"),
            ("pod_cidr_ipv6", "network 1"),
        ),
        (("kubernetes.pod_cidr_ipv4=11.0.0.0/23",), ("pod_cidr_ipv4", "too small", "2 nodes")),
        (
            ("cluster.nodes=200", "kubernetes.pod_cidr_ipv4=11.0.0.0/17"),
            ("pod_cidr_ipv4", "too small", "200 nodes"),
        ),
        (
            ("cluster.ip_family=ipv6", "kubernetes.pod_cidr_ipv6=1100::/119"),
            ("pod_cidr_ipv6", "too small"),
        ),
    ],
)
def test_ranges_that_contradict_each_other_are_refused(
    sets: tuple[str, ...], names: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        planned(*sets)
    assert all(name in str(caught.value) for name in names), str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["externalip.ipv4=192.168.1.0/24", "externalip.ipv4=11.0.3.0/24"])
def test_addresses_of_services_are_nobody_elses(text: str) -> None:
    with pytest.raises(UsageError, match=r"externalip\.ipv4"):
        planned(text, "mconnect.vip4=" + text.partition("=")[2].replace("0/24", "9"),
                overlays=("kubernetes", "mconnect", "externalip"))  # fmt: skip


def test_the_largest_cluster_fits_its_default_ranges() -> None:
    plan = planned("cluster.nodes=200", "cluster.ip_family=dual")
    assert len(plan.nodes) == 201


HOSTILE = (
    "x\nExecStartPre=/bin/evil",
    "x\r\n[Service]\nExecStartPre=/bin/evil",
    "x\0y",
    "x\u2028ExecStartPre: evil",
    'x" ExecStartPre="/bin/evil',
    "x' ; touch /evil; '",
    "x \\",
    "$(touch /evil) `touch /evil` ${PATH} %h",
    "{{ ctx }} {% raw %}",
    "a: b # c\n- d",
)


def texts(type_: Any, hostile: str) -> Any:
    """The value with a text in each place where the type has one; None if it has none."""
    if type_ is str:
        return hostile
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if origin is tuple and arguments[0] is str:
        return [f"--x={hostile}"]
    if origin is dict:
        value = hostile if arguments[1] is str else arguments[1](1)
        return {hostile: value}
    return None


TEXTS = [
    key
    for key, attribute in EVERY.items()
    if not is_choice(attribute.type) and texts(attribute.type, "x") is not None
]


def files_of(plan: Plan) -> dict[str, bytes]:
    found = {
        entry.path: entry.data
        for layer in plan.layers
        for entry in layer.layer.entries
        if isinstance(entry, File)
    }
    for node in plan.nodes:
        found |= {f"{node.node.name}:{file.path}": file.data for file in node.files}
    return found


def directives(text: str) -> list[tuple[str, str]]:
    """The sections and options of a unit, as systemd reads them, without the values."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found, section = [], ""
    for line in joined.splitlines():
        if line.startswith("["):
            section = line
        elif line.strip() and not line.startswith(("#", ";")):
            found.append((section, line.partition("=")[0]))
    return found


def shape(path: str, data: bytes) -> Any:
    """What a file says besides its values: directives of a unit, keys of a configuration."""
    if data.startswith(b"\x7fELF"):
        return data
    text = data.decode()
    if re.search(r"\.(service|mount|network|link|conf|target|timer|socket)$", path):
        return directives(text)
    if path.endswith(".toml"):
        return keys(tomllib.loads(text))
    if path.endswith((".json", ".conflist")):
        return keys(json.loads(text))
    if path.endswith((".yaml", ".yml")):
        return [keys(document) for document in yaml.safe_load_all(text)]
    return None


def keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [keys(item) for item in value]
    return None


BASE_OVERLAYS = {
    "cluster": ("kubernetes",),
    "plugins": ("debian",),
    "bench": ("debian",),
}


def accepted(key: str) -> Iterator[str]:
    """The hostile texts that a setting takes, each as it is written."""
    overlay = key.partition(".")[0]
    cls = CORE_SETTINGS.get(overlay) or Registry().overlay(overlay).settings
    for hostile in HOSTILE:
        value = texts(EVERY[key].type, hostile)
        written = f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        request = Request(overlays=(overlay,), sets=(written,), environment={}, stored={})
        try:
            Settings(request).load(overlay, cls)
        except UsageError:
            continue
        yield written


@pytest.mark.parametrize("key", TEXTS)
def test_no_text_adds_a_line_or_a_directive_to_what_nodes_get(key: str) -> None:
    overlay = key.partition(".")[0]
    overlays = BASE_OVERLAYS.get(overlay, (overlay,))
    sets = SETS.get(overlay, ())
    given = list(accepted(key))
    if not given:
        return
    # Lists and tables add up, so that one plan has all of them.
    rounds = [[text] for text in given] if EVERY[key].type is str else [given]
    plain = files_of(planned(*sets, overlays=overlays))
    for texts_ in rounds:
        try:
            found = files_of(planned(*sets, *texts_, overlays=overlays))
        except UsageError:
            continue
        for path, data in found.items():
            assert shape(path, data) == shape(path, plain[path]), (path, texts_)
            assert b"\nExecStartPre=/bin/evil" not in data


def words_of_start(data: bytes) -> list[str]:
    """The arguments of ExecStart=, as systemd splits them (its quotes are those of a shell)."""
    joined = re.sub(r"\\\n\s*", " ", data.decode())
    (line,) = (line for line in joined.splitlines() if line.startswith("ExecStart="))
    return shlex.split(line.partition("=")[2])


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("kubernetes.apiserver_args", "kube-apiserver"),
        ("kubernetes.controller_manager_args", "kube-controller-manager"),
        ("kubernetes.scheduler_args", "kube-scheduler"),
        ("kubernetes.kubelet_args", "kubelet"),
        ("etcd.args", "etcd"),
    ],
)
def test_an_argument_stays_one_argument_whatever_is_in_it(key: str, unit: str) -> None:
    path = f"/etc/systemd/system/{unit}.service"
    before = words_of_start(files_of(planned())[path])
    given = [f"--x={text}" for text in HOSTILE if text.isprintable()]
    after = words_of_start(files_of(planned(f"{key}={json.dumps(given)}"))[path])
    assert after[: len(before)] == before
    expected = [text.replace("%", "%%").replace("$", "$$") for text in given]
    assert after[len(before) :] == expected


def test_the_hostile_values_are_seen_where_nothing_stops_them() -> None:
    unit = "[Service]\nExecStart=/bin/x --a=x\nExecStartPre=/bin/evil\n"
    assert directives(unit) != directives("[Service]\nExecStart=/bin/x --a=x\n")


@pytest.mark.parametrize("letter", ["\n", "\r", "\0", "\x1b", "\u2028", "\x85", "\udc80"])
@pytest.mark.parametrize("key", ["debian.packages", "cluster.kernel_args", "etcd.args"])
def test_no_setting_takes_control_characters(key: str, letter: str) -> None:
    with pytest.raises(UsageError) as caught:
        planned(f"{key}=a{letter}b")
    assert key in str(caught.value) or key in caught.value.where
    assert str(caught.value).isprintable()
