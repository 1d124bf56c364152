"""Loading into nodes, with a cluster and a runtime that stand in for real ones: what is parallel,
what a failure says. Real ones: xk8s_containerd's tests, and tests/cluster.
"""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import define, evolve, field
from xk8s.build.artifacts.store import Store
from xk8s.cli import app
from xk8s.context import Context, ExecResult
from xk8s.errors import MachineError, StateError, UsageError
from xk8s.names.core_settings import ClusterSettings
from xk8s.overlay import Fragment
from xk8s.planning.topology import nodes
from xk8s.progress import Progress, Silent
from xk8s.sources import Artifact
from xk8s.util.paths import cache_dir
from xk8s_images import Delivery, Loader
from xk8s_images.command import images, show
from xk8s_images.layout import manifest_of
from xk8s_images.load import GATEWAY, check, deliver, fetch, loader_of, nodes_of
from xk8s_images.missing import load_missing

Make = Callable[..., Path]


@define(eq=False)
class StandInCluster:
    """Runs nothing: answers the question for a way to this machine."""

    loaders: tuple[Loader, ...] = ()
    unreachable: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()
    name: str = "t"
    state_dir: Path = Path()
    asked: list[tuple[str, tuple[str, ...]]] = field(factory=list)

    @property
    def ctx(self) -> Context:
        return Context(
            cluster="t",
            ip_family="ipv4",
            overlays=("base", "runtime"),
            networks=(),
            nodes=nodes(ClusterSettings(nodes=3)),
            all_fragments={
                "images.loader": tuple(
                    Fragment(point="images.loader", value=loader) for loader in self.loaders
                )
            },
        )

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        self.asked.append((node, tuple(argv)))
        if node in self.dead:
            raise MachineError(f"{node}: the VM no longer exists")
        if node in self.unreachable:
            return ExecResult(exit_code=7, stdout=b"", stderr=b"curl: (7) no route")
        return ExecResult(exit_code=0, stdout=b"", stderr=b"")

    def fetch(self, artifacts: Sequence[Artifact], progress: Progress) -> dict[str, Path]:
        found = Store(cache_dir()).get_many(list(artifacts), progress)
        return {key: resolved.path for key, resolved in found.items()}

    def forward(self, name: str) -> tuple[str, int]:
        raise KeyError(name)

    def listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", 0))

    def dial(self, address: str, port: int, *, timeout: float = 5.0) -> object:
        raise OSError


def loader(load: Callable[[Delivery], None]) -> Loader:
    return Loader(load=load, listing=lambda _access, _node: {})


def test_all_nodes_at_the_same_time_each_by_its_own_door(layout: Make, own_cache: Path) -> None:
    together = threading.Barrier(3, timeout=10)
    seen: dict[str, Delivery] = {}

    def load(delivery: Delivery) -> None:
        together.wait()
        seen[delivery.node] = delivery
        assert delivery.door is not None
        assert delivery.registry == f"192.168.0.250:{delivery.door.port}"
        path = f"{delivery.door.path}/{delivery.parcel.repository}/manifests/1"
        url = f"http://127.0.0.1:{delivery.door.port}/v2/{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.headers["Docker-Content-Digest"] == delivery.parcel.digest
        delivery.say("half of it")

    cluster = StandInCluster(loaders=(loader(load),))
    chosen = nodes_of(cluster, ())
    assert chosen == ("vm-001", "vm-002", "vm-003")
    parcels = fetch(StandInCluster(), images([f"oci:{layout()}"], ()), Silent())
    outcomes = deliver(cluster, parcels, chosen, Silent())
    assert [outcome.node for outcome in outcomes] == list(chosen)
    check(outcomes)
    assert len({delivery.door.path for delivery in seen.values() if delivery.door}) == 3
    (_, argv), *_ = cluster.asked
    assert argv[0] == "curl"
    assert argv[-1].startswith(f"http://{GATEWAY}:")


def test_a_failure_names_the_nodes_and_the_others_go_on(
    layout: Make, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(delivery: Delivery) -> None:
        if delivery.node == "vm-002":
            raise MachineError("no room", where="vm-002", hint="make room", log="disk full")

    cluster = StandInCluster(loaders=(loader(load),), dead=frozenset({"vm-003"}))
    wanted = images([f"oci:{layout()}", f"oci:{layout()}:x/b:1"], ())
    parcels = fetch(StandInCluster(), wanted, Silent())
    outcomes = deliver(cluster, parcels, nodes_of(cluster, ()), Silent())
    assert len(outcomes) == 6
    show(outcomes, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [outcome["ok"] for outcome in found] == [True, True, False, False, False, False]
    assert found[0]["image"] == "xk8s.local/a:1"
    assert found[0]["digest"] == manifest_of(layout())["digest"]
    assert found[2]["error"] == "no room"
    show(outcomes, as_json=False)
    text = capsys.readouterr().out
    assert "ok   vm-001 xk8s.local/a:1 (" in text
    assert "FAIL vm-002 docker.io/x/b:1: no room" in text
    with pytest.raises(MachineError, match="could not be loaded into vm-002 and vm-003") as caught:
        check(outcomes)
    assert str(caught.value).endswith("; it is in vm-001")
    assert "vm-003: xk8s.local/a:1: vm-003: the VM no longer exists" in caught.value.where
    assert caught.value.hint == "make room"
    assert caught.value.log == "disk full"


def test_a_node_without_a_way_to_this_machine_is_told_to_its_loader(
    layout: Make, own_cache: Path
) -> None:
    doors = {}

    def load(delivery: Delivery) -> None:
        doors[delivery.node] = delivery.door

    cluster = StandInCluster(
        loaders=(loader(load),),
        unreachable=frozenset({"vm-002"}),
    )
    notes: list[str] = []
    progress = Silent()
    progress.note = notes.append  # type: ignore[method-assign]
    parcels = fetch(StandInCluster(), images([f"oci:{layout()}"], ()), Silent())
    check(deliver(cluster, parcels, ("vm-001", "vm-002"), progress))
    assert doors["vm-001"] is not None
    assert doors["vm-002"] is None
    assert notes == [
        "vm-002: this machine is unreachable through its management network (curl: (7) no route)"
    ]


def test_an_interrupted_load_ends(layout: Make, own_cache: Path) -> None:
    """What the nodes still fetch breaks off, so that their programs fail and nobody waits."""
    started = threading.Event()

    def load(delivery: Delivery) -> None:
        assert delivery.door is not None
        if delivery.node == "vm-001":
            started.wait(10)
            raise KeyboardInterrupt
        url = f"http://127.0.0.1:{delivery.door.port}/v2/"
        started.set()
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except OSError as error:
                raise MachineError("broken off") from error

    cluster = StandInCluster(loaders=(loader(load),))
    parcels = fetch(StandInCluster(), images([f"oci:{layout()}"], ()), Silent())
    with pytest.raises(KeyboardInterrupt):
        deliver(cluster, parcels, ("vm-001", "vm-002"), Silent())


def test_wrong_words(layout: Make, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(UsageError, match="no image is named"):
        images((), ())
    for wrong in ("app:1", "=dir", "app:1="):
        with pytest.raises(UsageError, match="is not REF=DIR"):
            images((), [wrong])
    with pytest.raises(UsageError, match=r"two of the images are called xk8s\.local/a:1"):
        images([f"oci:{layout()}"], [f"xk8s.local/a:1={tmp_path}/d"])
    with pytest.raises(UsageError, match="two of the images are called a:1"):
        images([], [f"a:1={tmp_path}/d", f"a:1={tmp_path}/d"])
    with pytest.raises(UsageError, match="two directories are given for"):
        images([], [f"a:1={tmp_path}/d", f"docker.io/library/a:1={tmp_path}/d"])
    with pytest.raises(StateError, match="has no node 'vm-201' that runs containers") as caught:
        nodes_of(StandInCluster(), ["vm-201"])
    assert "vm-001, vm-002, vm-003" in caught.value.hint
    with pytest.raises(StateError, match="no container runtime that can load images"):
        loader_of(StandInCluster())


def test_programs_that_fail_in_a_node_say_so(layout: Make) -> None:
    def run(node: str, argv: Sequence[str], **more: object) -> ExecResult:
        if argv[0] == "slow":
            raise TimeoutError(f"{node}: slow: not done after 5 s")
        return ExecResult(exit_code=3, stdout=b"out", stderr=b"err\n")

    delivery = Delivery(
        access=SimpleNamespace(run=run), node="vm-001", parcel=None, door=None, gateway=""
    )
    with pytest.raises(MachineError, match="ctr failed with exit code 3") as caught:
        delivery.run("ctr", "x")
    assert caught.value.log == "err"
    assert caught.value.where == "vm-001"
    assert delivery.run("ctr", ok=(0, 3)) == "out"
    with pytest.raises(MachineError, match="not done after 5 s"):
        delivery.run("slow")


def test_the_verb_without_a_cluster(
    layout: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["load", "image"]) == UsageError.exit_code
    assert app.run(["load", "image", f"oci:{tmp_path}/absent"]) == UsageError.exit_code
    assert "does not exist" in capfd.readouterr().err
    assert app.run(["load", "image", f"oci:{layout()}"]) == StateError.exit_code
    assert "there is no cluster 'xk8s'" in capfd.readouterr().err


def test_an_apply_loads_just_what_nodes_lack(layout: Make, own_cache: Path) -> None:
    there = layout()
    (old,) = fetch(StandInCluster(), images([f"oci:{there}:x.local/old:1"], ()), Silent())
    loaded: list[tuple[str, str]] = []

    def load(delivery: Delivery) -> None:
        loaded.append((delivery.node, delivery.parcel.ref))

    def listing(_access: object, node: str) -> dict[str, frozenset[str]]:
        # By name alone nobody knows which one it is.
        changed = frozenset({"sha256:another"})
        return {
            old.ref: frozenset({old.digest}),
            "x.local/changed:1": changed if node == "vm-002" else frozenset({old.id}),
        }

    refs = [f"oci:{there}:x.local/old:1", f"oci:{there}:x.local/changed:1"]

    @define(eq=False)
    class Wanting(StandInCluster):
        @property
        def ctx(self) -> Context:
            contributed = tuple(
                Fragment(point="images.image", value=image) for image in images(refs, ())
            )
            ctx = StandInCluster.ctx.fget(self)  # type: ignore[attr-defined]
            return evolve(ctx, all_fragments={**ctx.all_fragments, "images.image": contributed})

    cluster = Wanting(loaders=(Loader(load=load, listing=listing),))
    load_missing(cluster, Silent())
    assert sorted(loaded) == [(f"vm-00{n}", "x.local/changed:1") for n in (1, 2, 3)]
