"""Loading an image into CRI-O. No CRI-O can be had from a package registry: the crictl in these
tests is a stand-in that pulls, as CRI-O would, from where registries.conf.d says; what it pulls
with is a real skopeo.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from xk8s.context import ExecResult
from xk8s.errors import MachineError
from xk8s_crio import load as module
from xk8s_crio.load import load, names, registries_conf
from xk8s_images import Delivery, LoadableImage, ServerPort
from xk8s_images.layout import Member, config_digest, layer_tar, manifest_of, write_layout
from xk8s_images.serve import ServedImage, serving


def loopback() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@define(eq=False)
class StandIn:
    """A node: files by path, images by name, and a CRI-O that reads its files when told to."""

    root: Path
    deaf: int = 0
    """So many reloads are not heeded."""
    files: dict[str, str] = field(factory=dict)
    read: dict[str, str] = field(factory=dict)
    images: dict[str, dict[str, Any]] = field(factory=dict)
    removed: list[str] = field(factory=list)
    reloads: int = 0

    def run(
        self, node: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> ExecResult:
        code, out = 0, ""
        match list(argv):
            case ["install", "-D", "-m", "600", "/dev/stdin", path]:
                self.files[path] = stdin.decode()
            case ["rm", "-f", path]:
                self.files.pop(path, None)
            case ["systemctl", "kill", *_]:
                self.reloads += 1
                if self.reloads > self.deaf:
                    self.read = dict(self.files)
            case ["crictl", "inspecti", "--output", "json", image]:
                found = [
                    status for name, status in self.images.items() if image in (name, status["id"])
                ]
                code, out = (0, json.dumps({"status": found[0]})) if found else (1, "")
            case ["crictl", "pull", image]:
                code, out = self.pull(image)
            case ["crictl", "rmi", image]:
                self.removed.append(image)
            case other:
                raise AssertionError(other)
        return ExecResult(exit_code=code, stdout=out.encode(), stderr=out.encode())

    def pull(self, image: str) -> tuple[int, str]:
        for text in self.read.values():
            (registry,) = tomllib.loads(text)["registry"]
            if image.startswith(registry["prefix"]) and registry["insecure"]:
                return self.copy(image, registry["location"] + image[len(registry["prefix"]) :])
        return 1, f"{image}: no such host"

    def copy(self, image: str, place: str) -> tuple[int, str]:
        out = self.root / "pulled"
        shutil.rmtree(out, ignore_errors=True)
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-tls-verify=false",
             f"docker://{place}", f"oci:{out}"],
            check=True,
        )  # fmt: skip
        before = self.images.pop(image, None)
        if before is not None:
            self.images[f"<none>{before['id']}"] = {**before, "repoTags": []}
        self.images[image] = {
            "id": config_digest(out).removeprefix("sha256:"),
            "repoTags": [image],
            "repoDigests": [f"{image}@{manifest_of(out)['digest']}"],
        }
        return 0, ""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    monkeypatch.setattr(module, "_RELOAD_SECONDS", 0.0)
    return StandIn(root=tmp_path)


@pytest.fixture
def parcel(tmp_path: Path) -> Callable[..., LoadableImage]:
    def make(text: str, ref: str = "docker.io/library/load:1") -> LoadableImage:
        out = tmp_path / text
        layer = layer_tar([Member(path="text", mode=0o644, data=text.encode())])
        write_layout(out, ref=ref, layer=layer, cmd=["/bin/true"])
        return LoadableImage(
            ref=ref, layout=out, digest=str(manifest_of(out)["digest"]), id=config_digest(out)
        )

    return make


def deliver(node: StandIn, parcel: LoadableImage) -> None:
    with serving(
        [ServedImage(ref=parcel.ref, layout=parcel.layout)],
        ["n"],
        loopback(),
    ) as registry:
        load(
            Delivery(
                access=node, node="n", parcel=parcel, door=registry.doors["n"], gateway="127.0.0.1"
            )
        )


def test_the_stand_in_crio_pulls_from_here_and_forgets_where(
    node: StandIn, parcel: Callable[..., LoadableImage]
) -> None:
    wanted = parcel("one")
    deliver(node, wanted)
    assert node.images[wanted.ref]["id"] == wanted.id.removeprefix("sha256:")
    assert node.files == {} == node.read, "the file is gone, and CRI-O knows"


def test_a_stand_in_crio_that_is_slow_to_read_its_configuration(
    node: StandIn, parcel: Callable[..., LoadableImage]
) -> None:
    node.deaf = 3
    deliver(node, parcel("one"))
    assert node.reloads == 5


def test_a_stand_in_crio_that_pulls_something_else_or_nothing(
    node: StandIn, parcel: Callable[..., LoadableImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parcel("one")
    node.deaf = 99
    with pytest.raises(MachineError, match=r"did not pull docker\.io/library/load:1") as caught:
        deliver(node, wanted)
    assert "no such host" in caught.value.log
    assert node.files == {}
    # The real registry of that name has another image.
    node.images[wanted.ref] = {"id": "0" * 64, "repoDigests": []}
    monkeypatch.setattr(StandIn, "pull", lambda self, image: (0, ""))
    with pytest.raises(MachineError, match="did not pull") as caught:
        deliver(node, wanted)
    assert caught.value.log == f"it has {'0' * 64} "


def test_the_image_that_was_replaced_goes(
    node: StandIn, parcel: Callable[..., LoadableImage]
) -> None:
    first, second = parcel("one"), parcel("two")
    deliver(node, first)
    deliver(node, first)
    assert node.removed == []
    deliver(node, second)
    assert node.removed == [first.id.removeprefix("sha256:")]


def test_without_a_way_to_this_machine_it_says_so(
    node: StandIn, parcel: Callable[..., LoadableImage]
) -> None:
    delivery = Delivery(
        access=node, node="vm-002", parcel=parcel("one"), door=None, gateway="192.168.0.250"
    )
    with pytest.raises(
        MachineError, match="is unreachable through its management network"
    ) as caught:
        load(delivery)
    assert "xk8s net link vm-002 eth0 up" in caught.value.hint


def test_only_this_repository_is_elsewhere(parcel: Callable[..., LoadableImage]) -> None:
    delivery = Delivery(
        access=StandIn(root=Path()), node="n", parcel=parcel("x", "quay.io/a/b@sha256:" + "0" * 64),
        door=ServerPort(port=1234, path="ab"), gateway="192.168.0.250",
    )  # fmt: skip
    (registry,) = tomllib.loads(registries_conf(delivery))["registry"]
    assert registry == {
        "prefix": "quay.io/a/b",
        "location": "192.168.0.250:1234/ab/quay.io/a/b",
        "insecure": True,
    }


def test_images_are_listed_by_reference_with_id_and_digests() -> None:
    said = {
        "images": [
            {"id": "aa", "repoTags": ["x/a:1", "x/a:2"], "repoDigests": ["x/a@sha256:dd"]},
            {"id": "sha256:bb", "repoTags": ["x/b:1"], "repoDigests": None},
            {"id": "cc", "repoTags": [], "repoDigests": ["x/c@sha256:ee"]},
        ]
    }
    assert names(json.dumps(said).encode()) == {
        "x/a:1": {"sha256:aa", "sha256:dd"},
        "x/a:2": {"sha256:aa", "sha256:dd"},
        "x/b:1": {"sha256:bb"},
    }


@pytest.mark.parametrize("said", ["", "[]", '{"images": 5}', '{"images": ["x"]}', "[" * 100_000])
def test_a_list_of_images_that_makes_no_sense_names_its_node(said: str) -> None:
    class Guest:
        def run(self, node: str, argv: Sequence[str], **_: object) -> ExecResult:
            return ExecResult(exit_code=0, stdout=said.encode(), stderr=b"")

    with pytest.raises(MachineError, match="vm-001: CRI-O's list of images makes no sense"):
        module.listing(Guest(), "vm-001")  # type: ignore[arg-type]
