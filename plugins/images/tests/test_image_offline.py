"""References of a registry on 127.0.0.1 that goes away: what the cache has is used ever after,
until someone asks what a tag means now.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import define, field
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts import tags
from xk8s.build.artifacts.store import Store
from xk8s.cli import app
from xk8s.errors import ArtifactError, UsageError
from xk8s.names.request import Request
from xk8s.names.settings import Settings
from xk8s.progress import Silent
from xk8s.sources import Artifact
from xk8s_images import ImagesSettings, image_artifact
from xk8s_images.command import images
from xk8s_images.layout import CONTAINERD_NAME, config_digest, manifest_of
from xk8s_images.load import fetch
from xk8s_images.settings import images_of, pin_refs

Make = Callable[..., Path]


@define(eq=False)
class Registry:
    """Serves layouts by tag, at ``host``/app."""

    host: str = ""
    files: dict[str, bytes] = field(factory=dict)
    asked: list[str] = field(factory=list)
    stop: Callable[[], None] = field(default=lambda: None)

    def put(self, layout: Path, tag: str) -> str:
        """Offer it; its digest."""
        digest = str(manifest_of(layout)["digest"])
        for path in (layout / "blobs" / "sha256").iterdir():
            self.files[f"/v2/app/blobs/sha256:{path.name}"] = path.read_bytes()
            self.files[f"/v2/app/manifests/sha256:{path.name}"] = path.read_bytes()
        self.files[f"/v2/app/manifests/{tag}"] = self.files[f"/v2/app/blobs/{digest}"]
        return digest


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            made.asked.append(self.path)
            data = made.files.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made.host = f"127.0.0.1:{server.server_port}"

    def stop() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    made.stop = stop
    yield made
    if thread.is_alive():
        stop()


def artifact(*refs: str) -> Artifact:
    (image,) = images_of(ImagesSettings(refs=pin_refs(refs)))
    return image_artifact(image)


def image_id(cache: Path, wanted: Artifact) -> str:
    return config_digest(Store(cache).get(wanted, Silent()).path / "oci")


def test_once_pulled_no_registry_is_needed(
    registry: Registry, layout: Make, own_cache: Path
) -> None:
    registry.put(layout(), "1.0")
    ref = f"{registry.host}/app:1.0"
    assert image_id(own_cache, artifact(ref)) == config_digest(layout())
    key = artifact_key(artifact(ref))
    registry.stop()
    asked = len(registry.asked)
    assert artifact_key(artifact(ref)) == key
    assert image_id(own_cache, artifact(ref)) == config_digest(layout())
    assert Store(own_cache).get(artifact(ref), Silent(), offline=True)
    assert len(registry.asked) == asked
    with pytest.raises(ArtifactError, match="not tried"):
        Store(own_cache).get(artifact(f"{registry.host}/app:2.0"), Silent(), offline=True)
    with pytest.raises(ArtifactError, match="is not reachable"):
        Store(own_cache).get(artifact(f"{registry.host}/app:2.0"), Silent())


def update(wanted: Artifact, cache: Path) -> bool:
    return tags.update([wanted], Store(cache), Silent())


def test_a_tag_that_moved_is_pulled_when_asked_for(
    registry: Registry, layout: Make, own_cache: Path
) -> None:
    first = config_digest(layout("one"))
    registry.put(layout("one"), "latest")
    ref = f"{registry.host}/app"
    assert not update(artifact(ref), own_cache), "what is not cached yet cannot be stale"
    before = artifact(ref)
    assert image_id(own_cache, before) == first
    assert not update(before, own_cache)

    digest = registry.put(layout("two"), "latest")
    second = config_digest(layout("two"))
    assert image_id(own_cache, artifact(ref)) == first, "nobody asked"
    assert update(before, own_cache)
    after = artifact(ref)
    assert artifact_key(after) != artifact_key(before)
    assert image_id(own_cache, after) == second
    # The name in the cluster stays the tag.
    assert after.version == before.version == f"{registry.host}/app:latest"
    assert pin_refs([ref]) == (f"{registry.host}/app:latest@{digest}",)
    assert not update(after, own_cache)

    third = registry.put(layout("three"), "latest")
    assert update(after, own_cache)
    assert pin_refs([ref]) == (f"{registry.host}/app:latest@{third}",)
    # Back to the first one, which is in the cache by its tag alone: nothing gets mixed up.
    registry.put(layout("one"), "latest")
    image_id(own_cache, artifact(ref))
    assert update(artifact(ref), own_cache)
    assert image_id(own_cache, artifact(ref)) == first

    registry.stop()
    with pytest.raises(ArtifactError, match="could not be determined"):
        update(artifact(ref), own_cache)
    assert image_id(own_cache, artifact(ref)) == first


def test_what_is_pulled_to_be_loaded_has_its_name(
    registry: Registry, layout: Make, own_cache: Path
) -> None:
    """What came from the registry, and the image made of it, have the same version."""
    registry.put(layout(), "1.0")
    (wanted,) = images([f"{registry.host}/app:1.0"], ())
    tree = Store(own_cache).get(image_artifact(wanted), Silent()).path
    access = SimpleNamespace(fetch=lambda artifacts, progress: {artifact_key(artifacts[0]): tree})
    (parcel,) = fetch(access, [wanted], Silent())  # type: ignore[arg-type]
    names = manifest_of(parcel.layout)["annotations"]
    assert names[CONTAINERD_NAME] == parcel.ref == f"{registry.host}/app:1.0"


def test_the_verb_asks_for_tags_only_when_told(
    registry: Registry,
    layout: Make,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    registry.put(layout("one"), "latest")
    ref = f"{registry.host}/app"
    # The plan of just this image: that of a cluster takes artifacts that are large.
    monkeypatch.setattr(
        "xk8s.planning.make_plan.make_plan",
        lambda request, **_: SimpleNamespace(artifacts=(artifact(ref),)),
    )

    def digest(*options: str) -> str:
        assert app.run(["artifacts", "images", "--json", *options]) == 0
        (found,) = json.loads(capfd.readouterr().out)["artifacts"]
        return str(found["digest"])

    first = digest("--fetch")
    registry.put(layout("two"), "latest")
    assert digest("--fetch") == digest() == first
    second = digest("--update-tags")
    assert second != first
    assert digest() == second
    registry.stop()
    assert digest("--fetch") == second
    assert app.run(["artifacts", "images", "--update-tags"]) == ArtifactError.exit_code
    assert app.run(["artifacts", "--update-tags"]) == UsageError.exit_code


def test_a_digest_that_the_user_gave_is_not_updated(
    registry: Registry, layout: Make, own_cache: Path
) -> None:
    digest = registry.put(layout("one"), "1")
    wanted = artifact(f"{registry.host}/app:1@{digest}")
    assert wanted.version == f"{registry.host}/app:1"
    first = image_id(own_cache, wanted)
    registry.put(layout("two"), "1")
    asked = len(registry.asked)
    assert not update(wanted, own_cache)
    assert len(registry.asked) == asked
    assert image_id(own_cache, artifact(f"{registry.host}/app:1@{digest}")) == first
    # By digest alone it has no other name.
    assert artifact(f"{registry.host}/app@{digest}").version == f"{registry.host}/app@{digest}"


def test_a_damaged_record_of_tags_is_told(own_cache: Path) -> None:
    own_cache.mkdir()
    (own_cache / "tags.json").write_text("[1]")
    with pytest.raises(ArtifactError, match="is damaged") as caught:
        pin_refs(["busybox"])
    assert caught.value.hint.startswith("remove it")


def test_skopeos_word_for_a_registry_and_what_is_no_reference() -> None:
    assert pin_refs(["docker://quay.io/a/b:1", "quay.io/a/b:1"]) == ("quay.io/a/b:1",)
    for wrong in ("dir:/tmp/x", "UPPER", "a b", "x:1:2"):
        with pytest.raises(UsageError, match="is not an image reference"):
            pin_refs([wrong])


def test_settings_are_pinned_once_and_kept_so(
    tmp_path: Path, layout: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a running cluster gives its images again, though all files are gone."""
    monkeypatch.chdir(tmp_path)
    path = layout()
    (tmp_path / "root").mkdir()
    sets = ("images.refs=oci:layout,busybox", "images.build=me/app:2=root")
    settings = Settings(Request(overlays=("images",), sets=sets, environment={}))
    found = settings.load("images", ImagesSettings)
    assert found.refs[0] == f"oci:{path}:xk8s.local/a:1@{manifest_of(path)['digest']}"
    stored = {value.name: value.value for value in settings.values()}
    assert stored == {"refs": found.refs, "build": found.build}

    for file in (path / "index.json", path / "oci-layout"):
        file.unlink()
    (tmp_path / "root").rmdir()
    monkeypatch.chdir("/")
    kept = json.loads(json.dumps({"images": stored}))
    again = Settings(Request(overlays=("images",), stored=kept, environment={}))
    assert again.load("images", ImagesSettings) == found
    names = [image.ref for image in images_of(found)]
    assert names == ["xk8s.local/a:1", "docker.io/library/busybox:latest", "docker.io/me/app:2"]


def test_what_is_wrong_with_a_setting_says_which_one() -> None:
    settings = Settings(Request(overlays=(), sets=("images.refs=oci:absent",), environment={}))
    with pytest.raises(UsageError, match="does not exist") as caught:
        settings.load("images", ImagesSettings)
    assert caught.value.where.startswith("images.refs, command line: oci:/")
