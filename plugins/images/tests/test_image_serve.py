"""The registry for one transfer, pulled from by a real skopeo."""

from __future__ import annotations

import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from xk8s_images.layout import config_digest, manifest_of
from xk8s_images.serve import ImageServer, ServedImage, serving

Make = Callable[..., Path]
Copy = Callable[..., None]
REF = "quay.io/team/app:1"


def loopback() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def fetch(
    registry: ImageServer, path: str, *, method: str = "GET", client: str = "vm-001"
) -> bytes:
    url = f"http://127.0.0.1:{registry.doors[client].port}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
        return bytes(answer.read())


def status(registry: ImageServer, path: str) -> int:
    try:
        fetch(registry, path)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_skopeo_pulls_from_it(tmp_path: Path, layout: Make, skopeo: Copy, by: str) -> None:
    source = layout("x" * 100_000)
    with serving(
        [ServedImage(ref=REF, layout=source)],
        ["vm-001", "vm-002"],
        loopback(),
    ) as registry:
        door = registry.doors["vm-002"]
        what = ":1" if by == "tag" else f"@{manifest_of(source)['digest']}"
        repository = f"127.0.0.1:{door.port}/{door.path}/quay.io/team/app{what}"
        skopeo("--src-tls-verify=false", f"docker://{repository}", f"oci:{tmp_path}/out")
        # Each client's own way in: what it was sent is known.
        assert door.sent > 100_000
        assert registry.doors["vm-001"].sent == 0
    assert config_digest(tmp_path / "out") == config_digest(source)


def test_nobody_without_the_path_gets_anything(layout: Make) -> None:
    source = layout()
    digest = manifest_of(source)["digest"]
    with serving([ServedImage(ref=REF, layout=source)], ["vm-001"], loopback()) as registry:
        door = registry.doors["vm-001"]
        good = f"/v2/{door.path}/quay.io/team/app/manifests/1"
        assert status(registry, good) == 200
        assert fetch(registry, good, method="HEAD") == b""
        assert status(registry, "/v2/") == 200
        for path in (
            "/",
            "/v2/quay.io/team/app/manifests/1",
            f"/v2/{'0' * 32}/quay.io/team/app/manifests/1",
            f"/v2/{door.path}",
            f"/v2/{door.path}/",
            f"/v2/{door.path}/quay.io/team/app/manifests/2",
            f"/v2/{door.path}/quay.io/team/app/blobs/{digest}/../../../../../../etc/passwd",
            f"/{door.path}/quay.io/team/app/manifests/1",
            "//etc/passwd",
        ):
            assert status(registry, path) == 404, path
        assert len(door.path) == 32


def test_it_listens_on_the_loopback_only_and_ends(layout: Make) -> None:
    with serving([ServedImage(ref=REF, layout=layout())], ["vm-001"], loopback()) as registry:
        port = registry.doors["vm-001"].port
        listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True,
                                   text=True, check=True).stdout  # fmt: skip
        assert [line.split()[3] for line in listening.splitlines()] == [f"127.0.0.1:{port}"]
        before = threading.active_count()
    assert threading.active_count() < before
    with pytest.raises(urllib.error.URLError):
        fetch(registry, "/v2/")


def test_a_closed_door_breaks_off_what_is_being_sent(layout: Make) -> None:
    source = layout("x" * 30_000_000)
    layer = max((source / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    with serving([ServedImage(ref=REF, layout=source)], ["vm-001"], loopback()) as registry:
        door = registry.doors["vm-001"]
        url = f"http://127.0.0.1:{door.port}/v2/{door.path}/quay.io/team/app/blobs/sha256:{layer.name}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            got = len(answer.read(1000))
            registry.refuse()
            while piece := answer.read(1 << 20):
                got += len(piece)
        assert got < layer.stat().st_size
        assert status(registry, "/v2/") == 404
