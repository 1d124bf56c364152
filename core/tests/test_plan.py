"""The plan of two invented overlays: pure, repeatable, and it attributes every error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

import pytest
from attrs import frozen
from syrupy.assertion import SnapshotAssertion
from xk8s.context import Context
from xk8s.errors import PlanError, PluginError, UsageError
from xk8s.names.registry import Registry
from xk8s.names.request import Request
from xk8s.overlay import (
    BootImage,
    BootOptions,
    File,
    Forward,
    Fragment,
    KernelFacts,
    KernelNeeds,
    Layer,
    Node,
    Overlay,
    Point,
    Take,
    setting,
)
from xk8s.planning.make_plan import explain, make_plan
from xk8s.sources import Artifact, Release
from xk8s.testing import plugin


@frozen(kw_only=True)
class MotdSettings:
    text: str = setting("hello", "what is said at login")


BASE = Artifact(
    name="t-base",
    version="1",
    members=("root.erofs", "vmlinuz", "initrd"),
    sources=(
        Release(
            url="https://example.invalid/base.tar.gz",
            sha256="0" * 64,
            members={"root.erofs": "root.erofs", "vmlinuz": "vmlinuz", "initrd": "initrd"},
        ),
    ),
)


def take(member: str, path: str = "/") -> Take:
    return Take(artifact=BASE, member=member, path=path)


def base() -> object:
    return plugin(
        overlay=lambda: Overlay(summary="a base", provides=("base",)),
        layers=lambda ctx: [Layer(name="t-base", image=take("root.erofs"))],
        kernel_facts=lambda ctx: KernelFacts(
            release="6.12-test",
            config={"KEYS": "y", "IP_VS": "m"},
            modules=frozenset({"ip_vs"}),
            builtin=frozenset({"dummy"}),
        ),
        boot_image=lambda ctx: BootImage(
            kernel=take("vmlinuz"), initramfs=take("initrd"), kernel_args=("console=ttyS0",)
        ),
    )


def motd(**more: Callable[..., object]) -> object:
    def layers(ctx: Context) -> Iterable[Layer]:
        text = ctx.settings(MotdSettings).text
        extra = "".join(ctx.fragments("t-motd.lines", str))
        yield Layer(name="t-motd", entries=(File(path="/etc/motd", data=(text + extra).encode()),))

    def boot(ctx: Context, node: Node) -> BootOptions:
        return BootOptions(
            qemu_args=("-device", "virtio-rng-pci"),
            forwards=(Forward(name="api", guest_port=6443, preferred=18080),),
        )

    return plugin(
        **{
            "overlay": lambda: Overlay(
                summary="says hello",
                requires=("base",),
                settings=MotdSettings,
                points={"t-motd.lines": Point(type=str, help="More text.", example="!")},
            ),
            "layers": layers,
            "kernel": lambda ctx: KernelNeeds(
                config=("KEYS",), modules=("ip-vs", "dummy"), load=("ip_vs",)
            ),
            "boot": boot,
            "node_files": lambda ctx, node: [File(path="/etc/issue", data=node.name.encode())],
            **more,
        }
    )


def registry(**extra: object) -> Registry:
    return Registry({"t-os": base(), "t-motd": motd(), **extra})


def request(*sets: str, names: tuple[str, ...] = ("t-motd", "t-os")) -> Request:
    return Request(overlays=names, sets=sets, environment={}, stored={})


def test_plan_as_json(snapshot: SnapshotAssertion) -> None:
    text = json.dumps(make_plan(request(), registry()).to_json(), indent=1)
    assert text == json.dumps(make_plan(request(), registry()).to_json(), indent=1)
    assert json.loads(text) == snapshot


def test_digest_follows_what_matters_and_nothing_else() -> None:
    digest = make_plan(request(), registry()).digest
    assert make_plan(request("t-motd.text=bye"), registry()).digest != digest
    assert make_plan(request("cluster.nodes=3"), registry()).digest != digest
    other_name = Request(overlays=("t-os", "t-motd"), name="other", environment={}, stored={})
    assert make_plan(other_name, registry()).digest == digest


def test_fragments_reach_the_owner_of_the_point() -> None:
    extra = plugin(
        overlay=lambda: Overlay(summary="adds", requires=("t-motd",)),
        fragments=lambda ctx: [Fragment(point="t-motd.lines", value="!")],
    )
    plan = make_plan(request(names=("t-os", "t-extra")), registry(**{"t-extra": extra}))
    (layer,) = [planned.layer for planned in plan.layers if planned.layer.name == "t-motd"]
    assert layer.entries == (File(path="/etc/motd", data=b"hello!"),)


def test_fragment_of_the_wrong_type_names_the_point() -> None:
    extra = plugin(
        overlay=lambda: Overlay(summary="adds", requires=("t-motd",)),
        fragments=lambda ctx: [Fragment(point="t-motd.lines", value=5)],
    )
    with pytest.raises(PluginError, match=r"t-motd.lines is wrong: its value: it is 5, not str"):
        make_plan(request(names=("t-os", "t-extra")), registry(**{"t-extra": extra}))


def test_unmet_kernel_requirement_names_the_overlay() -> None:
    needy = motd(kernel=lambda ctx: KernelNeeds(config=("BPF_LSM",), modules=("wireguard",)))
    with pytest.raises(
        PlanError, match="'t-motd' needs CONFIG_BPF_LSM, module wireguard"
    ) as caught:
        make_plan(request(), registry(**{"t-motd": needy}))
    assert "6.12-test" in caught.value.where


def test_two_owners_of_a_path_are_both_named() -> None:
    twin = plugin(
        overlay=lambda: Overlay(summary="", requires=("t-motd",)),
        layers=lambda ctx: [Layer(name="twin", entries=(File(path="/etc/motd", data=b""),))],
    )
    with pytest.raises(PlanError, match=r"'t-motd' .* and 't-twin' .* both write /etc/motd"):
        make_plan(request(names=("t-os", "t-twin")), registry(**{"t-twin": twin}))


def test_node_files_of_two_overlays_collide() -> None:
    twin = plugin(
        overlay=lambda: Overlay(summary="", requires=("t-motd",)),
        node_files=lambda ctx, node: [File(path="/etc/issue", data=b"")],
    )
    with pytest.raises(PlanError, match="'t-motd' and 't-twin' both write /etc/issue"):
        make_plan(request(names=("t-os", "t-twin")), registry(**{"t-twin": twin}))


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"layers": lambda ctx: ["rubbish"]}, "xk8s_layers returned 'rubbish', not Layer"),
        ({"layers": lambda ctx: 7}, "xk8s_layers returned 7, not Layer"),
        ({"layers": lambda ctx: 1 / 0}, "xk8s_layers raised ZeroDivisionError"),
        ({"layers": lambda ctx, moon: []}, "moon"),
        ({"layerz": lambda ctx: []}, "xk8s_layerz"),
    ],
)
def test_a_broken_plugin_is_named(hooks: dict[str, Callable[..., object]], message: str) -> None:
    with pytest.raises(PluginError) as caught:
        make_plan(request(), registry(**{"t-motd": motd(**hooks)}))
    assert message in str(caught.value)
    assert "t-motd" in str(caught.value)


def test_route_without_router() -> None:
    vip = plugin(
        overlay=lambda: Overlay(summary="", requires=("t-motd",)),
        fragments=lambda ctx: [Fragment(point="cluster.route", value="10.0.0.0/24")],
    )
    with pytest.raises(PlanError, match=r"10.0.0.0/24 are behind a router"):
        make_plan(request("cluster.routers=0", names=("t-os", "t-vip")), registry(**{"t-vip": vip}))


def test_explain_says_where_a_value_came_from() -> None:
    value = explain(request("t-motd.text=bye"), "t-motd.text", registry())
    assert (value.value, value.default, value.origin) == ("bye", "hello", "command line")
    with pytest.raises(UsageError, match="no setting"):
        explain(request(), "t-motd.tex", registry())
    assert explain(request(), "cluster.nodes", registry()).value == 2


def test_the_users_own_arguments_come_last_on_every_vm() -> None:
    plan = make_plan(
        request(
            "cluster.kernel_args=quiet  panic=5",
            "cluster.qemu_args=-device 'virtio-rng-pci,max-bytes=1024' -snapshot",
        ),
        registry(),
    )
    assert plan.nodes
    for node in plan.nodes:
        assert node.kernel_args[-2:] == ("quiet", "panic=5")
        assert node.qemu_args[-3:] == ("-device", "virtio-rng-pci,max-bytes=1024", "-snapshot")
    with pytest.raises(UsageError, match="qemu_args"):
        make_plan(request("cluster.qemu_args=-device 'virtio"), registry())
