"""The user's own builds among other sources: what is fetched again, what is built again, and
what is refused before it is used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from attrs import evolve
from xk8s.artifact_keys import artifact_key
from xk8s.build.artifacts.judge import RECORD
from xk8s.build.artifacts.lockfile import LockFile
from xk8s.build.artifacts.store import Store
from xk8s.build.layers.build import LayerStore, layer_key
from xk8s.errors import ArtifactError, PluginError
from xk8s.overlay import File, Layer, Take
from xk8s.progress import Silent
from xk8s.recipe import Inspection
from xk8s.sources import Artifact, OwnDirectory, Release

from tests.notes import Notes

MEMBERS = ("apiserver", "kubelet", "proxy")
ROLES = {"node": ("kubelet", "proxy"), "control": ("apiserver",)}


asked: list[frozenset[str]] = []


@pytest.fixture(autouse=True)
def cache(own_places: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release source that tells what it was asked for: no download here."""
    from xk8s.build.artifacts.attempt import Attempt
    from xk8s.build.artifacts.sources import release
    from xk8s.sources import Provenance
    from xk8s.util.files import file_digest

    def provide(source: Release, wanted: frozenset[str], attempt: Attempt) -> list[Provenance]:
        asked.append(wanted)
        for member in wanted:
            (attempt.out / member).write_text(f"released {member}")
            (attempt.out / member).chmod(0o755)
        return [
            Provenance(
                member=member, kind="release", detail="r", sha256=file_digest(attempt.out / member)
            )
            for member in sorted(wanted)
        ]

    monkeypatch.setattr(release, "provide", provide)
    monkeypatch.setitem(sys.modules, "judges_of_tests", sys.modules[__name__])
    asked.clear()
    judged.clear()
    return own_places / "cache"


def artifact(own: Path | None = None, verify: str = "") -> Artifact:
    release = Release(url="http://127.0.0.1/x", members=dict.fromkeys(MEMBERS, ""), sha256="0" * 64)
    return Artifact(
        name="k8s",
        version="1",
        members=MEMBERS,
        sources=((OwnDirectory(path=str(own)),) if own else ()) + (release,),
        verify=verify,
    )


def build(directory: Path, name: str, text: str) -> Path:
    """What the user's own build leaves."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)
    (directory / name).chmod(0o755)
    return directory


def layers(of: Artifact) -> list[Layer]:
    made = [
        Layer(
            name=name,
            entries=tuple(
                Take(artifact=of, member=member, path=f"/usr/bin/{member}", mode=0o755)
                for member in members
            ),
        )
        for name, members in ROLES.items()
    ]
    return [*made, Layer(name="config", entries=(File(path="/etc/x", data=b"x"),))]


def test_the_rest_is_fetched_once_however_often_the_own_build_changes(
    tmp_path: Path, cache: Path
) -> None:
    for number in range(3):
        own = build(tmp_path / "own", "kubelet", f"my kubelet {number}")
        resolved = Store(cache).get(artifact(own), Silent())
        assert (resolved.path / "kubelet").read_text() == f"my kubelet {number}"
        assert (resolved.path / "proxy").read_text() == "released proxy"
        kinds = {origin.member: origin.kind for origin in resolved.provenance}
        assert kinds == {"apiserver": "release", "kubelet": "own directory", "proxy": "release"}
    assert asked == [{"apiserver", "proxy"}]


def test_the_rest_is_that_of_the_whole_artifact_when_it_is_there(
    tmp_path: Path, cache: Path
) -> None:
    Store(cache).get(artifact(), Silent())
    own = build(tmp_path / "own", "kubelet", "mine")
    Store(cache).get(artifact(own), Silent())
    assert asked == [set(MEMBERS)]


def test_all_of_them_own_asks_nobody(tmp_path: Path, cache: Path) -> None:
    for name in MEMBERS:
        own = build(tmp_path / "own", name, "mine")
    Store(cache).get(artifact(own), Silent())
    assert asked == []


def test_the_rest_must_be_what_the_lock_says(tmp_path: Path, cache: Path) -> None:
    own = build(tmp_path / "own", "kubelet", "mine")
    lock = LockFile(path=tmp_path / "xk8s.lock", update=True)
    Store(cache, lock=lock).get(artifact(own), Silent())
    (pin,) = lock.read()
    assert pin.sources == ("apiserver: release r", "proxy: release r")
    text = lock.path.read_text().replace(pin.digest, "0" * 64)
    lock.path.write_text(text)
    build(own, "kubelet", "mine again")
    with pytest.raises(ArtifactError, match=r"differs from xk8s\.lock"):
        Store(cache, lock=LockFile(path=lock.path)).get(artifact(own), Silent())


def test_an_empty_own_directory_is_among_the_reasons(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "own").mkdir()
    bad = evolve(artifact(tmp_path / "own"), members=(*MEMBERS, "nobody-has-this"))
    with pytest.raises(ArtifactError, match="nobody-has-this") as caught:
        Store(cache).get(bad, Silent())
    assert "own has none of" in str(caught.value)


def test_a_changed_program_changes_its_layer_alone(tmp_path: Path, cache: Path) -> None:
    keys = []
    for text in ("one", "two"):
        of = artifact(build(tmp_path / "own", "kubelet", text))
        resolved = {artifact_key(of): Store(cache).get(of, Silent())}
        keys.append({layer.name: layer_key(layer, resolved) for layer in layers(of)})
    changed = {name for name in keys[0] if keys[0][name] != keys[1][name]}
    assert changed == {"node"}


def test_the_changed_program_is_in_the_new_image(tmp_path: Path, cache: Path) -> None:
    found = []
    for text in ("one", "two"):
        of = artifact(build(tmp_path / "own", "kubelet", f"my kubelet {text}"))
        resolved = {artifact_key(of): Store(cache).get(of, Silent())}
        images = [LayerStore(cache).build(layer, resolved) for layer in layers(of)]
        found.append({image.name: image.path for image in images})
    assert found[0]["control"] == found[1]["control"]
    assert b"my kubelet two" in found[1]["node"].read_bytes()
    assert b"my kubelet one" not in found[1]["node"].read_bytes()


# --- judging ----------------------------------------------------------------------------

judged: list[str] = []


def refuse(given: Inspection) -> None:
    judged.append((given.path / "kubelet").read_text())
    raise ArtifactError(f"kubelet is of {given.origin('kubelet')}", where="here")


def accept(given: Inspection) -> None:
    judged.append((given.path / "kubelet").read_text())
    given.note("kubelet is old")


def test_what_cannot_work_never_enters_the_cache(tmp_path: Path, cache: Path) -> None:
    own = build(tmp_path / "own", "kubelet", "bad")
    bad = artifact(own, "judges_of_tests:refuse")
    for _ in range(2):
        with pytest.raises(ArtifactError, match=f"own directory {own}/kubelet"):
            Store(cache).get(bad, Silent())
    assert judged == ["bad", "bad"]
    assert Store(cache).cached(bad) is None
    assert not list(cache.rglob(".tmp-*"))


def test_a_good_one_is_judged_once_and_its_notes_are_told_each_time(cache: Path) -> None:
    notes = Notes()
    for _ in range(3):
        Store(cache).get(artifact(verify="judges_of_tests:accept"), notes)
    assert judged == ["released kubelet"]
    assert notes.notes == ["k8s: kubelet is old"] * 3


def test_what_was_cached_unjudged_is_judged_before_it_is_used(cache: Path) -> None:
    Store(cache).get(artifact(), Silent())
    with pytest.raises(ArtifactError):
        Store(cache).get(artifact(verify="judges_of_tests:refuse"), Silent())
    # Another judge's good opinion does not count, nor does a damaged record.
    Store(cache).get(artifact(verify="judges_of_tests:accept"), Silent())
    with pytest.raises(ArtifactError):
        Store(cache).get(artifact(verify="judges_of_tests:refuse"), Silent())
    (record,) = cache.rglob(RECORD)
    assert json.loads(record.read_text())["notes"] == ["kubelet is old"]
    record.write_text("{")
    judged.clear()
    Store(cache).get(artifact(verify="judges_of_tests:accept"), Silent())
    assert judged == ["released kubelet"]


def test_a_judge_is_no_part_of_the_key(tmp_path: Path) -> None:
    assert artifact_key(artifact(verify="m:f")) == artifact_key(artifact())


def test_a_judge_that_is_not_there_is_a_plugins_fault(cache: Path) -> None:
    with pytest.raises(PluginError, match="function judges_of_tests:nobody cannot be loaded"):
        Store(cache).get(artifact(verify="judges_of_tests:nobody"), Silent())
