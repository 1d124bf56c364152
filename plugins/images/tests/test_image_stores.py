"""Images in the local stores: a real containers-storage, and docker's API.

A real docker daemon is used where one is installed (as root); the other tests of its API are
asked of a stand-in that answers as docker 20.10 does.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socketserver
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define, field
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError, HostError, UsageError, Xk8sError
from xk8s.progress import Silent
from xk8s_images import ImagesSettings, image_artifact
from xk8s_images.containers import find
from xk8s_images.layout import config_digest
from xk8s_images.settings import images_of, pin_refs
from xk8s_images.stores import namespace_argv

Make = Callable[..., Path]
Copy = Callable[..., None]


def get(text: str, cache: Path) -> Path:
    (image,) = images_of(ImagesSettings(refs=pin_refs([text])))
    return Store(cache).get(image_artifact(image), Silent()).path / "oci"


# --- containers-storage -----------------------------------------------------------------


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A store of our own, made the user's by configuration; copies images into it."""
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    argv = namespace_argv()
    done = subprocess.run([*argv, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mount namespace here: {done.stderr.strip()}")
    config = tmp_path / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "overlay"\n'
        f'graphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(config))

    def put(layout: Path, name: str) -> None:
        target = f"containers-storage:[overlay@{tmp_path}/graph+{tmp_path}/run]{name}"
        words = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{layout}", target]
        subprocess.run([*argv, *words], check=True)

    yield put
    assert str(tmp_path) not in Path("/proc/mounts").read_text(), "a mount was left behind"


def test_an_image_of_the_local_store(
    storage: Callable[..., None], layout: Make, own_cache: Path
) -> None:
    storage(layout("one"), "localhost/app:dev")
    (pinned,) = pin_refs(["containers-storage:app:dev"])
    identity = config_digest(layout("one"))
    assert pinned == f"containers-storage:localhost/app:dev@{identity}"
    out = get("containers-storage:app:dev", own_cache)
    assert config_digest(out) == identity

    # Built again: the name means another image, and the next plan knows.
    storage(layout("two"), "localhost/app:dev")
    (changed,) = pin_refs(["containers-storage:localhost/app:dev"])
    assert changed != pinned
    assert config_digest(get(changed, own_cache)) == config_digest(layout("two"))
    # Whoever runs with the first one still has it, though the store knows it by no name.
    assert config_digest(get(pinned, own_cache)) == identity

    with pytest.raises(UsageError, match="there is no image absent") as caught:
        pin_refs(["containers-storage:absent"])
    assert "localhost/app:dev" in caught.value.hint
    with pytest.raises(ArtifactError, match="could not be copied out") as failed:
        get(f"containers-storage:absent:1@sha256:{'0' * 64}", own_cache)
    assert "image not known" in failed.value.log


def test_a_store_that_is_named(tmp_path: Path, storage: Callable[..., None], layout: Make) -> None:
    storage(layout(), "quay.io/x/app:1")
    os.environ.pop("CONTAINERS_STORAGE_CONF")
    spec = f"[overlay@{tmp_path}/graph+{tmp_path}/run]"
    (pinned,) = pin_refs([f"containers-storage:{spec}quay.io/x/app:1"])
    assert pinned.startswith(f"containers-storage:{spec}quay.io/x/app:1@sha256:")
    (image,) = images_of(ImagesSettings(refs=(pinned,)))
    assert image.ref == "quay.io/x/app:1"


def test_additional_stores_are_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "more" / "overlay-images" / "images.json"
    index.parent.mkdir(parents=True)
    index.write_text(
        json.dumps([{"id": "ab", "names": ["docker.io/library/app:latest"]}, {"id": "c"}])
    )
    config = tmp_path / "storage.conf"
    config.write_text(
        f'[storage]\ngraphroot = "{tmp_path}/none"\n'
        f'[storage.options]\nadditionalimagestores = ["{tmp_path}/more"]\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(config))
    assert find("", "app") == ("docker.io/library/app:latest", "sha256:ab")
    index.write_text("{")
    with pytest.raises(HostError, match="cannot be read"):
        find("", "app")
    config.write_text("[storage")
    with pytest.raises(HostError, match="cannot be read"):
        find("", "app")


# --- docker -----------------------------------------------------------------------------


@define(eq=False)
class StandIn:
    """Answers as docker does: images by name, and what `docker save` gives for an ID."""

    ids: dict[str, str] = field(factory=dict)
    archives: dict[str, bytes] = field(factory=dict)
    cut: bool = False
    broken: bool = False


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    docker = StandIn()

    class Handler(http.server.BaseHTTPRequestHandler):
        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            name = self.path.removeprefix("/images/").rpartition("/")[0]
            if docker.broken:
                self.answer(500, b'{"message": "no space left"}')
            elif self.path.endswith("/json") and name in docker.ids:
                self.answer(200, json.dumps({"Id": docker.ids[name]}).encode())
            elif self.path.endswith("/get") and name in docker.archives:
                self.answer(200, docker.archives[name])
            else:
                self.answer(404, b'{"message": "No such image"}')

        def answer(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:100] if docker.cut else data)

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    monkeypatch.chdir(tmp_path)  # the socket's path may be too long otherwise
    server = Server("docker.sock", Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", "unix://docker.sock")
    yield docker
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stand_in_docker_is_asked_what_a_name_means(
    stand_in: StandIn, tmp_path: Path, layout: Make, skopeo: Copy, own_cache: Path
) -> None:
    skopeo(f"oci:{layout()}", f"docker-archive:{tmp_path}/d.tar:docker.io/library/app:dev")
    identity = config_digest(layout())
    stand_in.ids["docker.io/library/app%3Adev"] = identity
    stand_in.archives[identity.replace(":", "%3A")] = (tmp_path / "d.tar").read_bytes()
    (pinned,) = pin_refs(["docker-daemon:app:dev"])
    assert pinned == f"docker-daemon:docker.io/library/app:dev@{identity}"
    stand_in.cut = True
    with pytest.raises(HostError, match="docker does not answer"):
        get(pinned, own_cache)
    stand_in.cut = False
    assert config_digest(get(pinned, own_cache)) == identity
    # By now it need not run at all.
    os.environ["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    assert config_digest(get(pinned, own_cache)) == identity


def test_a_stand_in_docker_that_says_no(stand_in: StandIn, tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(UsageError, match=r"docker has no image docker\.io/library/app:latest"):
        pin_refs(["docker-daemon:app"])
    stand_in.broken = True
    with pytest.raises(HostError, match="docker answers 500: no space left"):
        pin_refs(["docker-daemon:app"])
    stand_in.broken = False
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    stand_in.archives[f"sha256%3A{'0' * 64}"] = (tmp_path / "empty.tar").read_bytes()
    with pytest.raises(ArtifactError, match="damaged"):
        get(f"docker-daemon:app@sha256:{'0' * 64}", own_cache)
    with pytest.raises(HostError, match="docker answers 404"):
        get(f"docker-daemon:app@sha256:{'1' * 64}", own_cache)


@pytest.mark.parametrize(
    ("host", "error", "message"),
    [
        ("tcp://127.0.0.1:2375", UsageError, "unix socket only"),
        ("unix:///nonexistent/docker.sock", HostError, "docker does not answer"),
    ],
)
def test_no_docker(
    monkeypatch: pytest.MonkeyPatch, host: str, error: type[Xk8sError], message: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(error, match=message) as caught:
        pin_refs(["docker-daemon:app"])
    assert "docker-archive" in caught.value.hint


@pytest.fixture
def docker(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A real daemon of our own, without networks; its client's path."""
    programs = [shutil.which(name) for name in ("dockerd", "docker")]
    if None in programs or os.geteuid() != 0:
        pytest.skip("no dockerd (package docker.io), or not root")
    root = tmp_path_factory.mktemp("docker")
    host = f"unix://{root}/s"
    words = ["--host", host, "--data-root", root / "data", "--exec-root", root / "exec",
             "--pidfile", root / "pid", "--bridge=none", "--iptables=false",
             "--storage-driver=vfs"]  # fmt: skip
    with (root / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["unshare", "--mount", "--net", "dockerd", *words], stdout=log, stderr=log
        )
    monkeypatch.setenv("DOCKER_HOST", host)
    try:
        until = time.monotonic() + 60
        while subprocess.run([programs[1], "version"], capture_output=True, check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > until:
                pytest.skip(f"dockerd does not run here: {(root / 'log').read_text()[-500:]}")
            time.sleep(0.2)
        yield str(programs[1])
    finally:
        daemon.terminate()
        daemon.wait(60)


def test_a_real_docker(docker: str, tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "text", "text")
    with (tmp_path / "root.tar").open("rb") as root:
        made = subprocess.run(
            [docker, "import", "--change", 'CMD ["/text"]', "-", "app:dev"],
            stdin=root, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    assert pin_refs(["docker-daemon:app:dev"]) == (
        f"docker-daemon:docker.io/library/app:dev@{made}",
    )
    assert config_digest(get("docker-daemon:app:dev", own_cache)) == made
    subprocess.run([docker, "save", "-o", tmp_path / "saved.tar", "app:dev"], check=True)
    assert config_digest(get(f"docker-archive:{tmp_path}/saved.tar", own_cache)) == made
