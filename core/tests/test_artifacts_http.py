"""Downloads and registries, against servers on 127.0.0.1."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define, field
from xk8s.build.artifacts.sources.oci_image import parse
from xk8s.build.artifacts.store import Store
from xk8s.errors import ArtifactError, SourceFailed
from xk8s.progress import Silent
from xk8s.releases import find_checksum
from xk8s.sources import Artifact, OciImage, Release
from xk8s.util import http as http_client
from xk8s.util.log import Record

DATA = bytes(range(256)) * 8192


@define(eq=False)
class Site:
    """A web server: files by path, what was asked, and ways to misbehave."""

    url: str = ""
    files: dict[str, bytes] = field(factory=dict)
    types: dict[str, str] = field(factory=dict)
    asked: list[tuple[str, str]] = field(factory=list)
    cut: int = 0
    """Close the connection after so many bytes, once."""
    silent: bool = False
    """Send headers and then nothing."""
    ranges: bool = True
    redirect: dict[str, str] = field(factory=dict)
    token: str = ""

    def put(self, path: str, data: bytes, *, checksum: str = "sha256") -> str:
        """Offer a file and its checksum; the file's URL."""
        self.files[path] = data
        if checksum:
            digest = hashlib.new(checksum, data).hexdigest()
            self.files[f"{path}.{checksum}"] = digest.encode()
        return f"{self.url}{path}"


def handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path
            asked_range = self.headers.get("Range", "")
            site.asked.append((path, asked_range))
            if path in site.redirect:
                self.send_response(302)
                self.send_header("Location", site.redirect[path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            if path.startswith("/token?"):
                assert "scope=repository%3Ateam%2Fapp%3Apull" in path
                return self.send(200, json.dumps({"token": site.token}).encode())
            if site.token and self.headers.get("Authorization") != f"Bearer {site.token}":
                challenge = (
                    f'Bearer realm="{site.url}/token",service="here",'
                    f'scope="repository:team/app:pull"'
                )
                return self.send(401, b"", {"WWW-Authenticate": challenge})
            if path not in site.files:
                return self.send(404, b"no")
            data = site.files[path]
            headers = {"Content-Type": site.types.get(path, "application/octet-stream")}
            if asked_range and site.ranges:
                begin = int(re.fullmatch(r"bytes=(\d+)-", asked_range)[1])
                if begin >= len(data):
                    return self.send(416, b"")
                headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
                return self.send(206, data[begin:], headers)
            return self.send(200, data, headers)

        def send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if site.silent and len(data) > 1000:
                self.wfile.flush()
                time.sleep(1.5)
                self.close_connection = True
                return
            if site.cut and len(data) > site.cut:
                self.wfile.write(data[: site.cut])
                site.cut = 0
                self.close_connection = True
                return
            self.wfile.write(data)

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(made))
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def forget_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_unreachable", {})


def get(cache: Path, *sources: object, members: tuple[str, ...] = ("tool",)):
    artifact = Artifact(name="tool", version="1", members=members, sources=sources)
    return Store(cache).get(artifact, Silent())


def refuse(cache: Path, *sources: object, match: str) -> ArtifactError:
    with pytest.raises(ArtifactError, match=match) as caught:
        get(cache, *sources)
    assert not list((cache / "artifacts").iterdir())
    return caught.value


def plain(site: Site, *, checksum: str = "sha256") -> Release:
    url = site.put("/v1/tool", DATA, checksum=checksum)
    return Release(url=url, checksum_url=f"{url}.{checksum}", members={"tool": ""})


@pytest.mark.parametrize("checksum", ["sha256", "sha512"])
def test_a_release_with_a_bare_checksum(tmp_path: Path, site: Site, checksum: str) -> None:
    resolved = get(tmp_path, plain(site, checksum=checksum))
    assert (resolved.path / "tool").read_bytes() == DATA
    assert (resolved.path / "tool").stat().st_mode & 0o777 == 0o755
    (origin,) = resolved.provenance
    assert origin.kind == "release"
    assert origin.detail == f"{site.url}/v1/tool"
    assert origin.sha256 == hashlib.sha256(DATA).hexdigest()
    assert not list((tmp_path / "downloads").iterdir())


def test_requests_are_logged_with_their_outcome_and_no_secret(
    tmp_path: Path, site: Site, records: list[Record]
) -> None:
    url = site.put("/v1/tool", DATA, checksum="sha256")
    site.files |= {"/v1/tool?signature=hush": DATA, "/v1/tool?token=hush": DATA}
    site.redirect["/hop"] = f"{site.url}/v1/tool?signature=hush"
    signed = url.replace("//", "//me:hush@")
    with http_client.client() as http:
        http.get(f"{site.url}/hop")
        http.get(f"{signed}?token=hush")
        assert http.get(f"{site.url}/none").status == 404
        with pytest.raises(SourceFailed, match="https"):
            http.get("http://192.0.2.1/x?token=hush")
    assert "hush" not in str(records)
    found = [record.fields for record in records if record.event == "http_request"]
    assert [(fields["method"], fields["url"], fields.get("status")) for fields in found] == [
        ("GET", f"{site.url}/hop", 302),
        ("GET", f"{site.url}/v1/tool?…", 200),
        ("GET", f"{site.url}/v1/tool?…", 200),
        ("GET", f"{site.url}/none", 404),
        ("GET", "http://192.0.2.1/x?…", None),
    ]
    assert "not https" in str(found[4]["error"])
    assert all(isinstance(fields["duration_s"], float) for fields in found)


def test_lines_of_sha256sum_are_found_by_name() -> None:
    one, two = "1" * 64, "A" * 64
    text = f"{one}  other.tgz\n{two} *dist/tool.tgz\n"
    assert find_checksum(text, "tool.tgz") == two.lower()
    assert find_checksum(f"{one}\n", "tool.tgz") == one
    with pytest.raises(SourceFailed, match=r"no line for absent\.tgz"):
        find_checksum(text, "absent.tgz")


def test_a_damaged_download_is_refused_and_removed(tmp_path: Path, site: Site) -> None:
    release = plain(site)
    site.files["/v1/tool"] = DATA[:-1] + b"?"
    refuse(tmp_path, release, match="checksum does not match")
    assert not list((tmp_path / "downloads").iterdir())
    site.files["/v1/tool"] = DATA
    assert get(tmp_path, release)


def test_a_pin_is_stronger_than_what_the_site_says(tmp_path: Path, site: Site) -> None:
    url = site.put("/tool", DATA)
    pinned = Release(url=url, checksum_url=f"{url}.sha256", sha256="0" * 64, members={"tool": ""})
    refuse(tmp_path, pinned, match="checksum does not match")


def test_without_a_checksum_nothing_is_asked(tmp_path: Path, site: Site) -> None:
    url = site.put("/tool", DATA)
    refuse(tmp_path, Release(url=url, members={"tool": ""}), match="no published checksum")
    assert site.asked == []


@pytest.mark.parametrize("text", [b"<html>not found</html>", b"0" * 40, b"", b"zz" * 32])
def test_what_is_no_checksum_is_refused(tmp_path: Path, site: Site, text: bytes) -> None:
    release = plain(site)
    site.files["/v1/tool.sha256"] = text
    refuse(tmp_path, release, match="checksum|sha256")


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path: Path, site: Site) -> None:
    release = plain(site)
    site.cut = 1_000_000
    refuse(tmp_path, release, match="v1/tool")
    (part,) = (tmp_path / "downloads").iterdir()
    have = part.stat().st_size
    assert 0 < have <= 1_000_000
    assert (get(tmp_path, release).path / "tool").read_bytes() == DATA
    assert site.asked[-1] == ("/v1/tool", f"bytes={have}-")
    assert not list((tmp_path / "downloads").iterdir())


@pytest.mark.parametrize("part", [b"wrong" * 100, DATA + b"more", DATA])
@pytest.mark.parametrize("ranges", [True, False])
def test_whatever_lies_there_does_no_harm(
    tmp_path: Path, site: Site, part: bytes, ranges: bool
) -> None:
    release = plain(site)
    site.ranges = ranges
    (tmp_path / "downloads").mkdir()
    name = hashlib.sha256(DATA).hexdigest()
    (tmp_path / "downloads" / f"{name}.part").write_bytes(part)
    assert (get(tmp_path, release).path / "tool").read_bytes() == DATA


def test_a_stalled_download_is_given_up(tmp_path: Path, site: Site, monkeypatch) -> None:
    monkeypatch.setattr("xk8s.util.http.STALL", 0.3)
    release = plain(site)
    site.silent = True
    begin = time.monotonic()
    refuse(tmp_path, release, match="no data for")
    assert time.monotonic() - begin < 1.4


def test_an_absent_file_says_so(tmp_path: Path, site: Site) -> None:
    release = plain(site)
    del site.files["/v1/tool"]
    refuse(tmp_path, release, match="HTTP 404")


def test_redirects_are_followed_but_not_to_plain_http(tmp_path: Path, site: Site) -> None:
    release = plain(site)
    site.files["/elsewhere"] = DATA
    site.redirect["/v1/tool"] = "http://example.invalid/tool"
    refuse(tmp_path, release, match=r"example.invalid/tool is not https")
    site.redirect["/v1/tool"] = f"{site.url}/elsewhere"
    assert get(tmp_path, release)


def test_an_unreachable_host_is_asked_once(tmp_path: Path, monkeypatch) -> None:
    tried = []

    def dead(address: object, timeout: float) -> None:
        tried.append(address)
        raise OSError("no route")

    monkeypatch.setattr(http_client.socket, "create_connection", dead)
    monkeypatch.setattr(http_client, "_proxy", lambda _: "")
    releases = [
        Release(url=f"https://example.invalid/{n}", sha256="0" * 64, members={"tool": ""})
        for n in range(5)
    ]
    error = refuse(tmp_path, *releases, match="not reachable: no route")
    assert str(error).count("not reachable") == 5
    assert tried == [("example.invalid", 443)]


def test_a_dead_resolver_costs_only_the_time_to_connect(tmp_path: Path, monkeypatch) -> None:
    release = threading.Event()

    def hang(*_: object, **__: object) -> None:
        release.wait(9)
        raise OSError

    monkeypatch.setattr(http_client, "CONNECT", 0.2)
    monkeypatch.setattr(http_client, "_proxy", lambda _: "")
    monkeypatch.setattr(http_client.socket, "create_connection", hang)
    begin = time.monotonic()
    source = Release(url="https://example.invalid/x", sha256="0" * 64, members={"tool": ""})
    refuse(tmp_path, source, match="no answer within")
    assert time.monotonic() - begin < 1
    release.set()


def test_offline_asks_nothing(tmp_path: Path, site: Site) -> None:
    artifact = Artifact(name="tool", version="1", members=("tool",), sources=(plain(site),))
    with pytest.raises(ArtifactError, match="offline"):
        Store(tmp_path).get(artifact, Silent(), offline=True)
    assert site.asked == []


# --- archives ---


def tar(mode: str, fill: Callable[[tarfile.TarFile], None] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        add(archive, "./dir/tool", b"#!", mode=0o4755)
        add(archive, "dir/sub/data", b"data")
        add(archive, "dir/alias", kind=tarfile.SYMTYPE, link="tool")
        add(archive, "dir/same", kind=tarfile.LNKTYPE, link="dir/tool")
        if fill:
            fill(archive)
    return stream.getvalue()


def add(archive, name, data=b"", *, mode=0o644, kind=tarfile.REGTYPE, link="") -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = len(data), mode, kind, link
    archive.addfile(info, io.BytesIO(data))


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in (("dir/tool", b"#!"), ("dir/sub/data", b"data"), ("dir/same", b"#!")):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100755 << 16
            archive.writestr(info, data)
        archive.writestr("dir/alias", b"#!")
    return stream.getvalue()


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    "make",
    [
        lambda: tar("w:gz"),
        lambda: tar("w:xz"),
        lambda: tar("w"),
        zipped,
        pytest.param(
            lambda: zstd(tar("w")),
            marks=pytest.mark.skipif(not shutil.which("zstd"), reason="no zstd program"),
        ),
    ],
    ids=["gz", "xz", "tar", "zip", "zst"],
)
def test_members_of_archives(tmp_path: Path, site: Site, make) -> None:
    url = site.put("/tool.archive", make())
    members = {"tool": "dir/tool", "sub": "./dir/sub", "same": "dir/same", "alias": "dir/alias"}
    release = Release(url=url, checksum_url=f"{url}.sha256", members=members)
    tree = get(tmp_path, release, members=("tool", "sub")).path
    assert (tree / "tool").read_bytes() == b"#!"
    assert (tree / "tool").stat().st_mode & 0o7777 == 0o755
    assert (tree / "sub" / "data").read_bytes() == b"data"
    for link in ("same", "alias"):
        assert (get(tmp_path, release, members=(link,)).path / link).read_bytes() == b"#!"


def evil(name: str, **options: object) -> Callable[[tarfile.TarFile], None]:
    return lambda archive: add(archive, name, **options)


def write_through(archive: tarfile.TarFile) -> None:
    add(archive, "dir/out", kind=tarfile.SYMTYPE, link="sub")
    add(archive, "dir/out/x", b"evil")


@pytest.mark.parametrize(
    "fill",
    [
        evil("../evil", data=b"x"),
        evil("/tmp/evil", data=b"x"),
        evil("a/../../evil", data=b"x"),
        evil("evil", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        evil("dir/evil", kind=tarfile.SYMTYPE, link="../../etc"),
        evil("evil", kind=tarfile.LNKTYPE, link="../../etc/passwd"),
        evil("evil", kind=tarfile.FIFOTYPE),
        evil("evil", kind=tarfile.CHRTYPE),
        write_through,
    ],
)
def test_archives_cannot_reach_outside(tmp_path: Path, site: Site, fill) -> None:
    url = site.put("/bad.tgz", tar("w:gz", fill))
    release = Release(url=url, checksum_url=f"{url}.sha256", members={"tool": "dir/tool"})
    refuse(tmp_path / "cache", release, match=r"bad\.tgz")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("data", [tar("w:gz")[:80], b"no archive at all", gzip.compress(b"x")])
def test_a_broken_archive_is_no_traceback(tmp_path: Path, site: Site, data: bytes) -> None:
    url = site.put("/bad.tgz", data)
    release = Release(url=url, checksum_url=f"{url}.sha256", members={"tool": "dir/tool"})
    refuse(tmp_path, release, match="cannot be read")


def test_a_member_that_the_archive_lacks(tmp_path: Path, site: Site) -> None:
    url = site.put("/tool.tgz", tar("w:gz"))
    release = Release(url=url, checksum_url=f"{url}.sha256", members={"tool": "dir/none"})
    refuse(tmp_path, release, match="has no 'dir/none'")


# --- registry ---

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def registry(site: Site) -> Site:
    def blob(data: bytes) -> dict[str, object]:
        site.files[f"/v2/team/app/blobs/{digest(data)}"] = data
        return {"mediaType": "x", "digest": digest(data), "size": len(data)}

    def manifest(tag: str, document: dict, kind: str) -> dict[str, object]:
        data = json.dumps(document).encode()
        for name in (tag, digest(data)):
            site.files[f"/v2/team/app/manifests/{name}"] = data
            site.types[f"/v2/team/app/manifests/{name}"] = kind
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    image = {"config": blob(b"{}"), "layers": [blob(DATA), blob(b"two"), blob(DATA)]}
    here = {**manifest("1.0-amd64", image, MANIFEST), "platform": platform("amd64")}
    other = {**manifest("1.0-arm64", {"x": 1}, MANIFEST), "platform": platform("arm64")}
    manifest("1.0", {"manifests": [other, here]}, INDEX)
    manifest("arm", {"manifests": [other]}, INDEX)
    site.token = "let me in"
    return site


def platform(architecture: str) -> dict[str, str]:
    return {"os": "linux", "architecture": architecture}


def pull(cache: Path, site: Site, tag: str = ":1.0"):
    ref = site.url.removeprefix("http://") + f"/team/app{tag}"
    return get(cache, OciImage(ref=ref), members=("oci",))


def test_an_image_becomes_an_oci_layout(tmp_path: Path, registry: Site) -> None:
    resolved = pull(tmp_path, registry)
    layout = resolved.path / "oci"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    blobs = layout / "blobs" / "sha256"
    for path in blobs.iterdir():
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = json.loads((blobs / entry["digest"].removeprefix("sha256:")).read_text())
    wanted = [manifest["config"], *manifest["layers"]]
    assert {descriptor["digest"].removeprefix("sha256:") for descriptor in wanted} <= {
        path.name for path in blobs.iterdir()
    }
    assert entry["digest"] in resolved.provenance[0].detail
    again = pull(tmp_path / "again", registry)
    assert again.digest == resolved.digest


def test_an_image_without_an_index_and_by_digest(tmp_path: Path, registry: Site) -> None:
    pull(tmp_path, registry, ":1.0-amd64")
    name = digest(registry.files["/v2/team/app/manifests/1.0-amd64"])
    pull(tmp_path, registry, f"@{name}")
    registry.files[f"/v2/team/app/manifests/{name}"] += b" "
    with pytest.raises(ArtifactError, match="not the one with that digest"):
        pull(tmp_path / "again", registry, f"@{name}")


def test_a_damaged_blob_is_refused(tmp_path: Path, registry: Site) -> None:
    registry.files[f"/v2/team/app/blobs/{digest(DATA)}"] = DATA[::-1]
    with pytest.raises(ArtifactError, match="checksum does not match"):
        pull(tmp_path, registry)


def test_an_image_of_another_platform_only(tmp_path: Path, registry: Site) -> None:
    with pytest.raises(ArtifactError, match="does not exist for linux/amd64"):
        pull(tmp_path, registry, ":arm")
    with pytest.raises(ArtifactError, match="HTTP 404"):
        pull(tmp_path, registry, ":absent")


@pytest.mark.parametrize(
    "answer", [b"[]", b"{", b'{"config": 1}', b'{"config": {"digest": "md5:x"}, "layers": []}']
)
def test_nonsense_from_a_registry_is_an_error(tmp_path: Path, registry: Site, answer) -> None:
    registry.files["/v2/team/app/manifests/1.0-amd64"] = answer
    with pytest.raises(ArtifactError, match=r"makes no sense|unknown digest"):
        pull(tmp_path, registry, ":1.0-amd64")


def test_references() -> None:
    one = parse("localhost:5000/a/b:v1")
    assert (one.base, one.tag) == ("http://localhost:5000/v2/a/b", "v1")
    assert parse("registry.example/a").tag == "latest"
    assert parse("registry.example/a").base == "https://registry.example/v2/a"
    assert parse(f"r.example/a:1@sha256:{'0' * 64}").tag == f"sha256:{'0' * 64}"
    for bad in (
        "busybox",
        "r.example/A",
        "r.example/a@sha256:1",
        "../x/y",
        "r.example/",
        "r.example/a:b c",
    ):
        with pytest.raises(SourceFailed, match="not an image reference"):
            parse(bad)
