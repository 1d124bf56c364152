"""Versions of Go modules that nobody pinned: built when the checksum database knows them.

The proxy and the database are small ones on 127.0.0.1; what asks and verifies is the real Go.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, evolve, field
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from xk8s.build.artifacts.sources.go_release import go_mod, near
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError, SourceFailed
from xk8s.progress import Silent
from xk8s.sources import Artifact, GoRelease

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="no go in PATH")

NAME = "sums.invalid"
SOURCE = GoRelease(
    module="example.invalid/app",
    version="v1.2.0",
    staging="v0.2.0",
    packages={"greet": "example.invalid/app/cmd/greet"},
    ldflags="-X main.word=hello",
)
ARTIFACT = Artifact(name="app", version="v1.2.0", members=("greet",), sources=(SOURCE,))

APP = {
    # As Kubernetes has it: a part of the same repository, published as a module of its own.
    "go.mod": "module example.invalid/app\n\ngo 1.21\n\ngodebug default=go1.21\n\n"
    "require example.invalid/part v0.0.0\n\n"
    "replace example.invalid/part => ./staging/part\n",
    "cmd/greet/main.go": 'package main\n\nimport "example.invalid/part"\n\nvar word string\n\n'
    "func main() { println(word, part.Name) }\n",
}
PART = {
    "go.mod": "module example.invalid/part\n\ngo 1.21\n",
    "part.go": 'package part\n\nconst Name = "part"\n',
}


@define(eq=False)
class Registry:
    """A module proxy with a checksum database: what is published, and what the database says."""

    files: dict[str, bytes] = field(factory=dict)
    records: list[str] = field(factory=list)
    key: Ed25519PrivateKey = field(factory=Ed25519PrivateKey.generate)
    url: str = ""

    def publish(
        self, module: str, version: str, files: dict[str, str], *, known: bool = True
    ) -> None:
        """Offer a version; ``known``: the database has its sums."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, text in files.items():
                archive.writestr(f"{module}@{version}/{name}", text)
        base = f"/{module}/@v/{version}"
        self.files[f"{base}.info"] = json.dumps({"Version": version}).encode()
        self.files[f"{base}.mod"] = files["go.mod"].encode()
        self.files[f"{base}.zip"] = packed.getvalue()
        index = f"/{module}/@v/list"
        self.files[index] = self.files.get(index, b"") + f"{version}\n".encode()
        if known:
            whole = {f"{module}@{version}/{name}": text for name, text in files.items()}
            self.records.append(
                f"{module} {version} {h1(whole)}\n"
                f"{module} {version}/go.mod {h1({'go.mod': files['go.mod']})}\n"
            )

    def verifier(self) -> str:
        """The value of GOSUMDB."""
        public = b"\x01" + self.key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return f"{NAME}+{self._hash(public).hex()}+{base64.b64encode(public).decode()}"

    def answer(self, path: str) -> bytes | None:
        """What a GET of the path gives."""
        database = f"/sumdb/{NAME}"
        if path == f"{database}/supported":
            return b""
        if path.startswith(f"{database}/lookup/"):
            module, _, version = path.removeprefix(f"{database}/lookup/").partition("@")
            for number, record in enumerate(self.records):
                if record.startswith(f"{module} {version} "):
                    return f"{number}\n{record}\n".encode() + self._tree()
            return None
        if path.startswith(f"{database}/tile/8/0/000"):
            return b"".join(self._leaves())
        return self.files.get(path)

    def _leaves(self) -> list[bytes]:
        return [hashlib.sha256(b"\0" + record.encode()).digest() for record in self.records]

    def _tree(self) -> bytes:
        root = base64.b64encode(tree_hash(self._leaves())).decode()
        text = f"go.sum database tree\n{len(self.records)}\n{root}\n".encode()
        public = self.verifier().split("+", 2)[2]
        signed = self._hash(base64.b64decode(public)) + self.key.sign(text)
        return text + f"\n— {NAME} {base64.b64encode(signed).decode()}\n".encode()

    def _hash(self, public: bytes) -> bytes:
        return hashlib.sha256(NAME.encode() + b"\n" + public).digest()[:4]


def h1(files: dict[str, str]) -> str:
    """Go's sum of files by name."""
    lines = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n"
        for name, text in sorted(files.items())
    )
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    left, right = tree_hash(leaves[:split]), tree_hash(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.fixture
def registry(
    own_places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Registry]:
    served = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.answer(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("GOPROXY", served.url)
    monkeypatch.setenv("GOSUMDB", served.verifier())
    # It remembers there what a database of that name said before.
    monkeypatch.setenv("GOPATH", str(tmp_path / "go"))
    monkeypatch.delenv("GOMODCACHE", raising=False)
    for name in ("GONOSUMDB", "GOPRIVATE", "GONOPROXY"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def get(tmp_path: Path, artifact: Artifact = ARTIFACT) -> Path:
    return Store(tmp_path / "cache").get(artifact, Silent()).path


@needs_go
def test_a_known_version_is_built_with_its_parts(registry: Registry, tmp_path: Path) -> None:
    registry.publish("example.invalid/app", "v1.2.0", APP)
    registry.publish("example.invalid/part", "v0.2.0", PART)
    resolved = Store(tmp_path / "cache").get(ARTIFACT, Silent())
    said = subprocess.run([resolved.path / "greet"], capture_output=True, text=True, check=True)
    assert said.stderr == "hello part\n"
    (origin,) = resolved.provenance
    assert origin.kind == "Go module"
    assert origin.detail.startswith("example.invalid/app v1.2.0, Go 1.")
    assert origin.detail.endswith(f"sums of {registry.verifier()}")


@needs_go
@pytest.mark.parametrize("unknown", ["example.invalid/app", "example.invalid/part"])
@pytest.mark.parametrize("setting", ["", "GONOSUMDB", "GOPRIVATE"])
def test_what_the_database_does_not_know_is_not_built_whatever_the_user_exempts(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unknown: str,
    setting: str,
) -> None:
    for module, version, files in (
        ("example.invalid/app", "v1.2.0", APP),
        ("example.invalid/part", "v0.2.0", PART),
    ):
        registry.publish(module, version, files, known=module != unknown)
    if setting:
        monkeypatch.setenv(setting, "*")
        monkeypatch.setenv("GONOPROXY", "none.invalid")
    with pytest.raises(ArtifactError, match="verifying"):
        get(tmp_path)


@needs_go
def test_other_content_than_the_database_knows_is_not_built(
    registry: Registry, tmp_path: Path
) -> None:
    registry.publish("example.invalid/app", "v1.2.0", APP)
    registry.publish("example.invalid/part", "v0.2.0", PART)
    evil = {**PART, "part.go": 'package part\n\nconst Name = "evil"\n'}
    registry.publish("example.invalid/part", "v0.2.0", evil, known=False)
    with pytest.raises(ArtifactError) as caught:
        get(tmp_path)
    assert "checksum mismatch" in str(caught.value) + caught.value.log


@needs_go
def test_a_database_that_is_switched_off_verifies_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish("example.invalid/app", "v1.2.0", APP)
    monkeypatch.setenv("GOSUMDB", "off")
    with pytest.raises(ArtifactError, match="checksum database is switched off"):
        get(tmp_path)


@needs_go
def test_a_version_that_is_not_there_names_those_that_are(
    registry: Registry, tmp_path: Path
) -> None:
    for version in ("v1.1.0", "v1.2.0", "v1.2.4"):
        registry.publish("example.invalid/app", version, APP)
    source = evolve(SOURCE, version="v1.2.1")
    with pytest.raises(ArtifactError, match=r"app@v1\.2\.1: there are v1\.2\.0, v1\.2\.4"):
        get(tmp_path, evolve(ARTIFACT, sources=(source,)))


def test_those_of_the_same_minor_version_are_named_or_the_latest() -> None:
    known = ["v1.9.0", "v1.10.0-rc.1", "v1.10.0", "v1.10.1"]
    assert near("v1.10.7", known) == ["v1.10.0-rc.1", "v1.10.0", "v1.10.1"]
    assert near("v1.11.0", known) == ["v1.9.0", "v1.10.0", "v1.10.1"]


def test_replacements_are_repeated_and_directories_become_versions() -> None:
    given = {
        "Go": "1.26.0",
        "Godebug": [{"Key": "default", "Value": "go1.26"}],
        "Require": [
            {"Path": "k/api", "Version": "v0.0.0"},
            {"Path": "k/utils", "Version": "v0.0.0-2026"},
        ],
        "Replace": [
            {"Old": {"Path": "k/api"}, "New": {"Path": "./staging/api"}},
            {"Old": {"Path": "k/sample"}, "New": {"Path": "./staging/sample"}},
            {"Old": {"Path": "x/y", "Version": "v1.0.0"}, "New": {"Path": "x/z", "Version": "v2"}},
        ],
    }
    assert go_mod(evolve(SOURCE, staging="v0.36.3"), given).splitlines() == [
        "module xk8s.invalid/build",
        "go 1.26.0",
        "godebug default=go1.26",
        "require example.invalid/app v1.2.0",
        "replace k/api => k/api v0.36.3",
        "replace x/y v1.0.0 => x/z v2",
    ]
    with pytest.raises(SourceFailed, match="not made of published modules: k/api"):
        go_mod(evolve(SOURCE, staging=""), given)
