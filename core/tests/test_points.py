"""Named points: what overlays add to each other, and who is told when it does not fit."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from xk8s.errors import PlanError, PluginError
from xk8s.fragments import argument_sets, config_sets, merged
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.overlay import (
    ALL_ROLES,
    NODE_ROLES,
    BootOptions,
    DropIn,
    File,
    Fragment,
    KernelNeeds,
    Layer,
    Overlay,
    Point,
    Role,
    Sysctl,
)
from xk8s.planning.make_plan import make_plan
from xk8s.planning.plan import Plan
from xk8s.testing.plans import plugin, with_base

OWNED = {
    "t-own.text": Point(type=str, help="a text", example="x"),
    "t-own.arg": Point(type=str, help="an argument", example="--x=1", sets=argument_sets()),
    "t-own.config": Point(
        type=Mapping[str, Any], help="a part", example={"a": 1}, sets=config_sets
    ),
    "t-own.layer": Point(type=Layer, help="a layer", example=Layer(name="x")),
}


def owner() -> object:
    def layers(ctx: Any) -> list[Layer]:
        texts = "\n".join(ctx.fragments("t-own.text", str))
        return [Layer(name="t-own", entries=(File(path="/etc/own", data=texts.encode()),))]

    return plugin(overlay=lambda: Overlay(summary="owner", points=OWNED), layers=layers)


def giver(*fragments: Fragment, **about: Any) -> object:
    return plugin(
        overlay=lambda: Overlay(summary="giver", **about), fragments=lambda ctx: fragments
    )


def fragment(point: str, value: object) -> Fragment:
    return Fragment(point=point, value=value)


def plan(*given: tuple[str, object], without: str = "", **more: object) -> Plan:
    """A plan of t-own and of overlays t-a, t-b, … that give a fragment each."""
    plugins: dict[str, object] = {
        f"t-{'abcdef'[index]}": giver(fragment(*contribution))
        for index, contribution in enumerate(given)
    }
    plugins |= {name.replace("_", "-"): value for name, value in more.items()}
    if without != "t-own":
        plugins["t-own"] = owner()
    request = Request(
        overlays=(*plugins, "debian"), environment={}, stored={}, sets=("cluster.nodes=2",)
    )
    return make_plan(request, Registry(with_base(plugins)))


def files(plan: Plan, role: Role, path: str) -> str | None:
    (text,) = {
        next((file.data.decode() for file in node.files if file.path == path), None)
        for node in plan.nodes
        if node.node.role == role
    }
    return text


# --- who owns what --------------------------------------------------------------------------


def test_values_reach_the_owner_in_the_order_of_overlays() -> None:
    made = plan(("t-own.text", "one"), ("t-own.text", "two"))
    (layer,) = [planned.layer for planned in made.layers if planned.overlay == "t-own"]
    assert layer.entries == (File(path="/etc/own", data=b"one\ntwo"),)
    assert [contribution.overlay for contribution in made.ctx.all_fragments["t-own.text"]] == [
        "t-a",
        "t-b",
    ]


def test_a_point_that_its_owner_has_not_is_an_error_with_those_that_are_there() -> None:
    with pytest.raises(PluginError, match=r"'t-a': there is no point 't-own.txt'") as caught:
        plan(("t-own.txt", "x"))
    assert "did you mean 't-own.text'?" in caught.value.hint
    assert "points of t-own: t-own.text, t-own.arg" in caught.value.hint
    with pytest.raises(PluginError, match=r"there is no point 'cluster.sysctls'") as caught:
        plan(("cluster.sysctls", "x"))
    assert "cluster.sysctl" in caught.value.hint


def test_a_fragment_for_an_installed_overlay_that_is_not_selected_is_for_nobody() -> None:
    made = plan(("containerd.whatever", 3), ("kubernetes.kubelet.config", {}))
    assert "kubernetes" not in made.ctx.overlays


def test_a_fragment_for_an_overlay_that_nobody_has_needs_a_word() -> None:
    with pytest.raises(PluginError, match="no overlay 'kuberntes' is installed") as caught:
        plan(("kuberntes.manifest", "x"))
    assert "did you mean 'kubernetes'?" in caught.value.hint
    assert "Overlay(after=('kuberntes',))" in caught.value.hint
    plan(t_a=giver(fragment("kuberntes.manifest", "x"), after=("kuberntes",)))


def test_a_point_begins_with_its_owners_name() -> None:
    stranger = plugin(
        overlay=lambda: Overlay(summary="x", points={"t-own.mine": OWNED["t-own.text"]})
    )
    with pytest.raises(PluginError, match=r"'t-z': its point 't-own.mine' does not begin with"):
        plan(t_z=stranger)


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "value", "text"),
    [
        ("t-own.text", 5, "it is 5, not str"),
        ("t-own.config", [], r"it is \[\], not Mapping"),
        ("t-own.config", {"a": {3: 4}}, "3 in a. is not a string"),
        ("t-own.layer", Layer(name=3), "name is 3, not str"),  # type: ignore[arg-type]
        ("t-own.arg", "x=3", "'x=3' is not an argument --name=value"),
        ("cluster.route", "10.0.0.0/99", "10.0.0.0/99"),
        ("cluster.sysctl", "net.x=1", "it is 'net.x=1', not Sysctl"),
        ("cluster.sysctl", Sysctl(key="a b", value="1"), "'a b' is not the name of a sysctl"),
        ("cluster.sysctl", Sysctl(key="a", value="1\nb = 2"), "is not a value of a sysctl"),
        ("cluster.sysctl", Sysctl(key="../x", value="1"), "not the name of a sysctl"),
        (
            "cluster.dropin",
            DropIn(unit="x", section="Service", option="Nice", value="1"),
            "'x' is not the name of a unit",
        ),
        (
            "cluster.dropin",
            DropIn(unit="../x.service", section="Service", option="Nice", value="1"),
            "is not the name of a unit",
        ),
        (
            "cluster.dropin",
            DropIn(unit="x.service", section="Service", option="Nice", value="1\n[Unit]"),
            "has more than one line",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_its_givers_fault(
    point: str, value: object, text: str
) -> None:
    with pytest.raises(PluginError, match=text) as caught:
        plan((point, value))
    assert "overlay 't-a': a fragment of" in str(caught.value)
    assert "such as" in caught.value.hint


def test_a_point_that_breaks_is_its_owners_fault() -> None:
    broken = Point(type=str, help="x", example="x", sets=lambda value: 1 / 0)  # type: ignore
    own = plugin(overlay=lambda: Overlay(summary="x", points={"t-z.x": broken}))
    with pytest.raises(PluginError, match=r"'t-z': its point t-z.x raised ZeroDivisionError"):
        plan(("t-z.x", "v"), t_z=own)


@pytest.mark.parametrize(
    ("point", "one", "other", "text"),
    [
        ("t-own.arg", "--v=4", "--v=5", "set --v: to '4' and to '5'"),
        ("t-own.arg", "--on", "--on=false", "set --on: to 'true' and to 'false'"),
        ("t-own.config", {"a": {"b": 1}}, {"a": {"b": 2}}, "set a.b: to 1 and to 2"),
        ("t-own.config", {"a": {"b": 1}}, {"a": 2}, "set a: to 'a table' and to 2"),
        (
            "cluster.sysctl",
            Sysctl(key="net.ipv4.ip_forward", value="1", roles=NODE_ROLES),
            Sysctl(key="net/ipv4/ip_forward", value="0", roles=frozenset({"worker", "router"})),
            "set net/ipv4/ip_forward on a worker: to '1' and to '0'",
        ),
        (
            "cluster.dropin",
            DropIn(unit="x.service", section="Service", option="Nice", value="1"),
            DropIn(unit="x.service", section="Service", option="Nice", value="2"),
            r"set Nice in \[Service\] of x.service on a control-plane: to '1' and to '2'",
        ),
    ],
)
def test_two_values_for_one_thing_name_both_overlays(
    point: str, one: object, other: object, text: str
) -> None:
    with pytest.raises(PlanError, match=f"overlays 't-a' and 't-b' both {text}") as caught:
        plan((point, one), (point, other))
    assert caught.value.where == f"fragments of {point}"
    plan((point, one), (point, one))  # of one mind


def test_one_overlay_that_contradicts_itself() -> None:
    both = giver(fragment("t-own.arg", "--v=1"), fragment("t-own.arg", "--v=2"))
    with pytest.raises(PlanError, match="overlay 't-a' sets twice --v"):
        plan(t_a=both)


# --- sysctls and drop-ins -------------------------------------------------------------------


def test_sysctls_are_a_file_of_the_nodes_of_their_roles() -> None:
    made = plan(
        ("cluster.sysctl", Sysctl(key="net.ipv4.ip_forward", value="1")),
        ("cluster.sysctl", Sysctl(key="net/ipv4/conf/eth1.5/rp_filter", value="0",
                                  roles=frozenset({"worker"}))),
        ("cluster.sysctl", Sysctl(key="net.ipv4.ip_forward", value="1")),
    )  # fmt: skip
    path = "/etc/sysctl.d/70-xk8s.conf"
    assert files(made, "control-plane", path) == "# t-a\nnet/ipv4/ip_forward = 1\n"
    assert files(made, "worker", path) == (
        "# t-a\nnet/ipv4/ip_forward = 1\n# t-b\nnet/ipv4/conf/eth1.5/rp_filter = 0\n"
    )
    assert files(plan(), "worker", path) is None


def test_options_of_a_unit_are_one_drop_in() -> None:
    def option(section: str, name: str, value: str) -> tuple[str, DropIn]:
        roles: frozenset[Role] = frozenset({"worker"})
        return "cluster.dropin", DropIn(
            unit="x.service", section=section, option=name, value=value, roles=roles
        )

    made = plan(
        option("Service", "Nice", "5"),
        option("Unit", "After", "a.service"),
        option("Unit", "After", "b.service"),
        option("Service", "Environment", "A=1"),
    )
    path = "/etc/systemd/system/x.service.d/70-xk8s.conf"
    assert files(made, "worker", path) == (
        "[Service]\n# t-a\nNice=5\n# t-d\nEnvironment=A=1\n\n"
        "[Unit]\n# t-b\nAfter=a.service\n# t-c\nAfter=b.service\n"
    )
    assert files(made, "control-plane", path) is None


# --- kernel arguments: a hook, and no fragment ----------------------------------------------


def booter(*args: str, roles: frozenset[Role] = ALL_ROLES) -> object:
    return plugin(
        overlay=lambda: Overlay(summary="boots"),
        boot=lambda ctx, node: BootOptions(kernel_args=args if node.role in roles else ()),
    )


def test_two_values_of_a_kernel_argument_name_both_overlays() -> None:
    with pytest.raises(PlanError, match="'t-a' and 't-b' both set the kernel argument nohz: to"):
        plan(t_a=booter("nohz=on"), t_b=booter("nohz=off"))
    made = plan(t_a=booter("nohz=on", "console=tty1"), t_b=booter("nohz=on", "console=ttyS1"))
    assert made.nodes[0].kernel_args[-4:] == ("nohz=on", "console=tty1", "nohz=on", "console=ttyS1")


def test_an_overlay_may_repeat_an_argument_and_all_its_values_count() -> None:
    """Only the first was compared, and the last counts: t-b silently changed what t-a asked for."""
    pages = ("hugepagesz=2M", "hugepages=9", "hugepagesz=1G", "hugepages=1")
    made = plan(t_a=booter(*pages), t_b=booter(*pages))
    assert made.nodes[0].kernel_args[-8:] == pages * 2
    with pytest.raises(PlanError, match="the kernel argument hugepages: to '9 1' and to '9'"):
        plan(t_a=booter(*pages), t_b=booter("hugepages=9", *pages[::2]))


# Three ways lead into the kernel: a fragment, kernel arguments, and modules to load.


@pytest.mark.parametrize("argument", ["sysctl.net.core.somaxconn=1", "sysctl.net/core/somaxconn=1"])
def test_a_sysctl_as_a_kernel_argument_contradicts_a_fragment(argument: str) -> None:
    """At boot the fragment's file won, without a word."""
    sysctl = Sysctl(key="net.core.somaxconn", value="4096", roles=NODE_ROLES)
    message = "'t-a' and 't-b' both set net/core/somaxconn on a .*: to '4096' and to '1'"
    with pytest.raises(PlanError, match=message):
        plan(("cluster.sysctl", sysctl), t_b=booter(argument))
    plan(("cluster.sysctl", sysctl), t_b=booter("sysctl.net.core.somaxconn=4096"))
    plan(("cluster.sysctl", sysctl), t_b=booter(argument, roles=frozenset({"router"})))


def loader(*modules: str) -> object:
    return plugin(
        overlay=lambda: Overlay(summary="loads"),
        kernel=lambda ctx: KernelNeeds(modules=modules, load=modules, roles=NODE_ROLES),
    )


@pytest.mark.parametrize("name", ["module_blacklist", "modprobe.blacklist"])
def test_a_module_to_load_that_another_overlay_blocks(name: str) -> None:
    blocker = booter(f"{name}=floppy,ip-tables")
    message = "'t-a' and 't-b' both set the module ip_tables: to 'loaded' and to 'blocked'"
    with pytest.raises(PlanError, match=message):
        plan(t_a=loader("ip_tables"), t_b=blocker)
    plan(t_a=blocker, t_b=booter(f"{name}=pcspkr"))  # lists add up
    plan(t_a=loader("ip_tables"), t_b=booter(f"{name}=ip_tables", roles=frozenset({"router"})))


# --- arguments and configurations -----------------------------------------------------------


def test_flags_that_are_tables_or_add_up() -> None:
    sets = argument_sets(tables=("feature-gates",), adding=("plugins",))
    assert sets("--feature-gates=A=true,B=false") == {
        "--feature-gates A": "true",
        "--feature-gates B": "false",
    }
    assert sets("--feature_gates=A=true") == {"--feature-gates A": "true"}
    assert sets("--plugins=x") == {}
    assert sets("--v=4") == {"--v": "4"}
    assert sets("-v") == {"-v": "true"}


def test_a_part_of_a_configuration_is_told_by_its_leaves() -> None:
    assert config_sets({"a": {"b.c": [1], "d": {}}, "e": None}) == {
        "a": "a table",
        'a."b.c"': [1],
        "a.d": "a table",
        "e": None,
    }
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": [3]}}) == {"a": {"b": [3], "c": 2}}


# --- the points of our own overlays ---------------------------------------------------------


def owned() -> list[tuple[str, Point]]:
    from xk8s.planning.points import CORE_POINTS

    registry = Registry()
    found = dict(CORE_POINTS)
    for offer in registry.offers:
        if offer.distribution.startswith("xk8s-"):
            found |= registry.overlay(offer.name).points
    return list(found.items())


@pytest.mark.parametrize(("name", "point"), owned(), ids=lambda value: str(value)[:40])
def test_each_points_example_is_a_value_that_it_takes(name: str, point: Point) -> None:
    from xk8s.util.typecheck import problem

    assert problem(point.example, point.type) is None
    assert point.help.endswith(".")
    if point.sets is not None:
        point.sets(point.example)


def test_examples_of_all_points_go_together_in_a_real_plan() -> None:
    given = [fragment(name, point.example) for name, point in owned() if name != "images.loader"]
    request = Request(
        overlays=("kubernetes", "containerd", "t-a"),
        environment={},
        stored={},
    )
    made = make_plan(request, Registry({"t-a": giver(*given)}))
    entries: dict[str, Callable[[], bytes] | bytes] = {
        entry.path: entry.data
        for planned in made.layers
        for entry in planned.layer.entries
        if isinstance(entry, File)
    }
    config = tomllib.loads(entries["/etc/containerd/config.toml"].decode())  # type: ignore[union-attr]
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["device_ownership_from_security_context"] is True
    assert runtime["cni"]["bin_dirs"] == ["/opt/cni/bin"]
    assert b"maxPods: 50" in entries["/etc/kubernetes/kubelet.yaml"]  # type: ignore[operator]
