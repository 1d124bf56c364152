"""Loading an image into a real containerd with its CRI plugin, which runs on this machine instead
of in a node: what a node's agent would run is run here.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from attrs import define, evolve, field
from xk8s.context import ExecResult
from xk8s.errors import MachineError
from xk8s_containerd.load import hosts_toml, load
from xk8s_images import Delivery, LoadableImage, ServerPort
from xk8s_images.layout import Member, config_digest, layer_tar, manifest_of, write_layout
from xk8s_images.serve import ServedImage, serving
from xk8s_images.stores import namespace_argv

CONFIG = """\
version = 3
root = "{work}/root"
state = "{work}/state"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{work}/c.sock"
"""


def loopback() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def programs() -> Path:
    """A directory with containerd 2 and ctr: given, or in the user's cache."""
    from xk8s.util.paths import cache_dir

    given = [Path(os.environ["CONTAINERDD"])] if os.environ.get("CONTAINERDD") else []
    for directory in (*given, *sorted((cache_dir() / "artifacts").glob("*/tree"))):
        if (directory / "containerd").is_file() and (directory / "ctr").is_file():
            return directory
    pytest.skip("no containerd: set CONTAINERDD, or run `xk8s up` once (it fills the cache)")


@define(eq=False)
class Here:
    """Runs on this machine what is meant for a node."""

    socket: Path
    path: str
    ran: list[tuple[str, ...]] = field(factory=list)

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        self.ran.append(tuple(argv))
        environment = {**os.environ, "CONTAINERD_ADDRESS": str(self.socket), "PATH": self.path}
        done = subprocess.run(argv, input=stdin, capture_output=True, env=environment, check=False)
        return ExecResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def names(self) -> set[str]:
        listing = self.run("", ["ctr", "-n", "k8s.io", "images", "ls", "-q"])
        return set(listing.stdout.decode().split())


@pytest.fixture(scope="module")
def node() -> Iterator[Here]:
    if os.geteuid() != 0:
        pytest.skip("only root can write where a node's root does")
    directory = programs()
    done = subprocess.run([*namespace_argv(), "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no mount namespace here")
    path = f"{directory}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="xk8s-c-") as name:
        work = Path(name)
        (work / "config.toml").write_text(CONFIG.format(work=work))
        with (work / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [*namespace_argv(), directory / "containerd", "--config", work / "config.toml"],
                stdout=log, stderr=log, env={**os.environ, "PATH": path},
            )  # fmt: skip
        here = Here(socket=work / "c.sock", path=path)
        try:
            until = time.monotonic() + 60
            while (
                b"cri                      -              ok"
                not in here.run("", ["ctr", "plugins", "list"]).stdout
            ):
                if daemon.poll() is not None or time.monotonic() > until:
                    said = (work / "log").read_text()[-600:]
                    pytest.skip(f"containerd with CRI does not run here: {said}")
                time.sleep(0.1)
            yield here
        finally:
            daemon.terminate()
            daemon.wait(30)
            # What its own mount namespace had mounted went with it.
            shutil.rmtree(work / "root", ignore_errors=True)


Make = Callable[..., LoadableImage]


@pytest.fixture
def parcel(tmp_path: Path) -> Make:
    def make(text: str, ref: str = "xk8s.local/load:1") -> LoadableImage:
        out = tmp_path / f"{text[:8]}-{len(list(tmp_path.iterdir()))}"
        layer = layer_tar([Member(path="text", mode=0o644, data=text.encode() * 5000)])
        write_layout(out, ref=ref, layer=layer, cmd=["/bin/true"])
        return LoadableImage(
            ref=ref, layout=out, digest=str(manifest_of(out)["digest"]), id=config_digest(out)
        )

    return make


def deliver(node: Here, parcel: LoadableImage, *, door: bool = True) -> ServerPort | None:
    """Load it; the way that it went."""
    with serving(
        [ServedImage(ref=parcel.ref, layout=parcel.layout)],
        ["n"],
        loopback(),
    ) as registry:
        delivery = Delivery(
            access=node,
            node="n",
            parcel=parcel,
            door=registry.doors["n"] if door else None,
            gateway="127.0.0.1",
        )
        load(delivery)
    return delivery.door


def left_in_run() -> list[Path]:
    return list(Path("/run").glob("xk8s-load-*"))


@pytest.mark.parametrize("door", [True, False], ids=["pulled", "by the agent"])
def test_an_image_gets_into_the_store_and_cri_knows_it(
    node: Here, parcel: Make, door: bool
) -> None:
    wanted = parcel("one", f"docker.io/library/load-{door}".lower() + ":1")
    way = deliver(node, wanted, door=door)
    if way is not None:
        assert way.sent > 15_000
    assert {wanted.ref, wanted.id} <= node.names()
    listing = node.run("", ["ctr", "-n", "k8s.io", "images", "check", f"name=={wanted.ref}"])
    assert wanted.digest in listing.stdout.decode()
    assert left_in_run() == []


def test_what_is_there_is_not_sent_again(node: Here, parcel: Make) -> None:
    wanted = parcel("two", "xk8s.local/twice:1")
    deliver(node, wanted)
    way = deliver(node, wanted)
    assert way is not None
    assert way.sent < 5000
    other = evolve(wanted, ref="quay.io/other/name:2")
    deliver(node, other)
    assert {wanted.ref, other.ref, wanted.id} <= node.names()


def test_the_replaced_image_goes_but_not_one_with_another_name(node: Here, parcel: Make) -> None:
    first, second, third = (parcel(text, "xk8s.local/again:1") for text in ("a", "b", "c"))
    deliver(node, first)
    deliver(node, evolve(first, ref="xk8s.local/kept:1"))
    deliver(node, second)
    assert {first.id, second.id, "xk8s.local/kept:1"} <= node.names()
    deliver(node, third)
    names = node.names()
    assert second.id not in names
    assert {first.id, third.id, "xk8s.local/kept:1", "xk8s.local/again:1"} <= names


def test_references_by_digest_and_registries_with_a_port(node: Here, parcel: Make) -> None:
    wanted = parcel("five", "localhost:5000/team/app:1")
    deliver(node, wanted)
    by_digest = evolve(wanted, ref=f"quay.io/team/app@{wanted.digest}")
    deliver(node, by_digest)
    assert {wanted.ref, by_digest.ref} <= node.names()


def test_a_damaged_image_is_refused_with_ctrs_words(node: Here, parcel: Make) -> None:
    wanted = parcel("six", "xk8s.local/damaged:1")
    layer = max((wanted.layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    layer.write_bytes(layer.read_bytes().replace(b"six", b"SIX"))
    with pytest.raises(MachineError, match="ctr images pull failed with exit code 1") as caught:
        deliver(node, wanted)
    assert "digest" in caught.value.log
    assert wanted.ref not in node.names()
    assert left_in_run() == []


def test_ctr_ends_at_once_when_a_transfer_is_broken_off(node: Here, parcel: Make) -> None:
    """As Ctrl-C does: containerd would try again for a minute if nobody answered."""
    wanted = parcel("seven" * 400, "xk8s.local/broken:1")
    with serving(
        [ServedImage(ref=wanted.ref, layout=wanted.layout)],
        ["n"],
        loopback(),
    ) as registry:
        door = registry.doors["n"]
        seen = threading.Thread(target=lambda: (_wait(lambda: door.sent > 0), registry.refuse()))
        seen.start()
        delivery = Delivery(access=node, node="n", parcel=wanted, door=door, gateway="127.0.0.1")
        with pytest.raises(MachineError, match="ctr images pull failed") as caught:
            load(delivery)
        seen.join()
    assert "not found" in caught.value.log
    assert left_in_run() == []


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)


def test_no_other_registry_is_asked(parcel: Make) -> None:
    delivery = Delivery(
        access=Here(socket=Path(), path=""), node="n",
        parcel=parcel("x", "docker.io/library/x:1"),
        door=ServerPort(port=1234, path="ab"), gateway="192.168.0.250",
    )  # fmt: skip
    hosts = tomllib.loads(hosts_toml(delivery))
    url = "http://192.168.0.250:1234/v2/ab/docker.io"
    assert hosts["server"] == url
    assert hosts["host"] == {url: {"capabilities": ["pull", "resolve"], "override_path": True}}
