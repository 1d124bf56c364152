"""A release of any version as it is downloaded: the real client and checksums, a server of ours in
place of the one of the project.
"""

from __future__ import annotations

import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError
from xk8s.progress import Silent
from xk8s.sources import Artifact, Release
from xk8s_kubernetes.artifacts import MEMBERS, kubernetes_artifact
from xk8s_kubernetes.settings import KubernetesSettings

VERSION = "v1.35.4"
RELEASES = "https://dl.k8s.io/release/"

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="no go to make programs with")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six programs that carry their name and version as those of Kubernetes do."""
    root = tmp_path_factory.mktemp("source")
    (root / "go.mod").write_text("module k8s.io/kubernetes\n\ngo 1.21\n")
    for name in MEMBERS:
        (root / "cmd" / name).mkdir(parents=True)
        (root / "cmd" / name / "main.go").write_text(
            "package main\n\nvar gitVersion string\n\nfunc main() { println(gitVersion) }\n"
        )
    subprocess.run(
        ["go", "build", "-trimpath", "-buildvcs=false", "-o", "bin/", "-ldflags",
         f"-X main.gitVersion={VERSION}", "./cmd/..."],
        cwd=root, check=True,
    )  # fmt: skip
    return root / "bin"


@pytest.fixture
def site(programs: Path, tmp_path: Path, own_places: Path) -> Iterator[tuple[str, Path]]:
    """The server's URL and its directory."""
    place = tmp_path / "site" / VERSION / "bin" / "linux" / "amd64"
    place.mkdir(parents=True)
    for name in MEMBERS:
        shutil.copy(programs / name, place / name)
        digest = hashlib.sha256((place / name).read_bytes()).hexdigest()
        (place / f"{name}.sha256").write_text(digest)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *words: object) -> None:
            super().__init__(*words, directory=str(tmp_path / "site"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def served(url: str, **settings: object) -> Artifact:
    """The artifact as it is planned, with our server and nothing to fall back to."""
    artifact = kubernetes_artifact(KubernetesSettings(version=VERSION, **settings))
    sources = [
        evolve(
            source,
            url=source.url.replace(RELEASES, url),
            checksum_url=source.checksum_url.replace(RELEASES, url),
        )
        if isinstance(source, Release)
        else source
        for source in artifact.sources[:-1]
    ]
    return evolve(artifact, sources=tuple(sources))


def test_a_release_is_downloaded_and_verified(site: tuple[str, Path], tmp_path: Path) -> None:
    resolved = Store(tmp_path / "cache").get(served(site[0]), Silent())
    assert resolved.version == VERSION
    for name in MEMBERS:
        said = subprocess.run([resolved.path / name], capture_output=True, text=True, check=True)
        assert said.stderr == f"{VERSION}\n"
    assert {origin.kind for origin in resolved.provenance} == {"release"}


def test_what_has_another_checksum_is_refused(site: tuple[str, Path], tmp_path: Path) -> None:
    url, place = site
    with (place / "kubelet").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ArtifactError, match="no source has kubelet") as caught:
        Store(tmp_path / "cache").get(served(url), Silent())
    assert "checksum does not match" in str(caught.value)


def test_an_own_program_takes_the_place_of_the_releases(
    site: tuple[str, Path], programs: Path, tmp_path: Path
) -> None:
    url, place = site
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(programs / "kubelet", mine / "kubelet")
    # Not downloaded: what is not needed may be missing.
    (place / "kubelet").unlink()
    resolved = Store(tmp_path / "cache").get(served(url, dir=str(mine)), Silent())
    kinds = {origin.member: origin.kind for origin in resolved.provenance}
    assert kinds.pop("kubelet") == "own directory"
    assert set(kinds.values()) == {"release"}
    # The next build of it: nothing is asked for again.
    shutil.rmtree(place)
    with (mine / "kubelet").open("ab") as file:
        file.write(b"another build")
    again = Store(tmp_path / "cache").get(served(url, dir=str(mine)), Silent())
    assert (again.path / "kubelet").read_bytes().endswith(b"another build")
