"""Same inputs, same key; any change, another key."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xk8s.artifact_keys import artifact_key
from xk8s.errors import PluginError
from xk8s.sources import (
    Artifact,
    DebPackage,
    GoModule,
    GoRelease,
    OciImage,
    OwnDirectory,
    Recipe,
    Release,
)

text = st.text("abc/.é", min_size=1, max_size=6)
names = st.dictionaries(text, text, min_size=1, max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
leaves = st.one_of(
    st.builds(Release, url=text, members=names, checksum_url=text, sha256=text),
    st.builds(
        GoModule,
        go_mod=text,
        go_sum=text,
        packages=names,
        ldflags=text,
        tags=st.lists(text, max_size=2).map(tuple),
        extra_files=names,
    ),
    st.builds(
        GoRelease,
        module=text,
        version=text,
        packages=names,
        staging=text,
        ldflags=text,
        tags=st.lists(text, max_size=2).map(tuple),
    ),
    st.builds(
        DebPackage, members=st.dictionaries(text, st.tuples(text, text), max_size=3), suite=text
    ),
    st.builds(OciImage, ref=text, member=text),
)


def artifacts(sources: st.SearchStrategy) -> st.SearchStrategy[Artifact]:
    return st.builds(
        Artifact,
        name=text,
        version=text,
        members=st.lists(text, max_size=3).map(tuple),
        sources=st.lists(sources, max_size=3).map(tuple),
    )


recipes = st.builds(
    Recipe,
    function=text,
    params=st.dictionaries(text, json_values, max_size=3),
    inputs=st.lists(artifacts(leaves), max_size=2).map(tuple),
    revision=st.integers(1, 9),
)
any_artifact = artifacts(leaves | recipes)


def reordered(value: object) -> object:
    """The same value with every mapping filled the other way round."""
    if attrs.has(type(value)):
        fields = {a.name: reordered(getattr(value, a.name)) for a in attrs.fields(type(value))}
        return type(value)(**fields)
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    if isinstance(value, (tuple, list)):
        return type(value)(reordered(item) for item in value)
    return value


@settings(deadline=None)
@given(any_artifact)
def test_order_of_mappings_does_not_count(artifact: Artifact) -> None:
    assert artifact_key(reordered(artifact)) == artifact_key(artifact)


@settings(deadline=None)
@given(any_artifact, any_artifact)
def test_different_artifacts_have_different_keys(one: Artifact, other: Artifact) -> None:
    # Not the other way round: to Python True == 1, to a recipe it is something else.
    if artifact_key(one) == artifact_key(other):
        assert one == other
    if one != other:
        assert artifact_key(one) != artifact_key(other)


@settings(deadline=None)
@given(any_artifact, st.data())
def test_every_field_counts(artifact: Artifact, data: st.DataObject) -> None:
    """Change one leaf anywhere in the value."""
    before = artifact_key(artifact)
    for field in attrs.fields(Artifact):
        if field.name == "verify":
            continue  # it judges what is there and changes nothing
        value = getattr(artifact, field.name)
        changed = (*value, "x") if field.name == "members" else value
        changed = f"{value}x" if isinstance(value, str) else changed
        if field.name == "sources":
            changed = (*value, OciImage(ref="added"))
        assert artifact_key(attrs.evolve(artifact, **{field.name: changed})) != before
    for number, source in enumerate(artifact.sources):
        fields = [field for field in attrs.fields(type(source)) if field.name != "places"]
        field = data.draw(st.sampled_from(fields))
        value = getattr(source, field.name)
        if isinstance(value, str):
            changed = value + "x"
        elif isinstance(value, int):
            changed = value + 1
        elif isinstance(value, dict):
            new = ("p", "q") if isinstance(source, DebPackage) else "new"
            changed = {**value, "new key": new}
        else:
            added = artifact if field.name == "inputs" else "new"
            changed = (*value, added)
        sources = list(artifact.sources)
        sources[number] = attrs.evolve(source, **{field.name: changed})
        assert artifact_key(attrs.evolve(artifact, sources=tuple(sources))) != before


def test_a_recipe_with_params_that_are_no_json_names_the_artifact() -> None:
    bad = Recipe(function="m:f", params={"x": object()})
    with pytest.raises(PluginError, match="artifact thing"):
        artifact_key(Artifact(name="thing", version="1", members=(), sources=(bad,)))


def test_where_a_recipe_finds_things_is_no_part_of_the_key() -> None:
    def key(**more: object) -> str:
        source = Recipe(function="m:f", params={"digest": "1"}, **more)
        return artifact_key(Artifact(name="a", version="1", members=(), sources=(source,)))

    assert key() == key(places={"file": "/here"}) == key(places={"file": "/there"})


def own(directory: Path) -> Artifact:
    source = OwnDirectory(path=str(directory))
    return Artifact(name="tool", version="1", members=("tool", "data"), sources=(source,))


@pytest.fixture
def built(own_places: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "built"
    (directory / "data").mkdir(parents=True)
    (directory / "tool").write_text("one")
    (directory / "data" / "a").write_text("a")
    return directory


def test_own_builds_count_by_content(built: Path) -> None:
    before = artifact_key(own(built))
    (built / "unrelated").write_text("x")
    os.utime(built / "tool", (1, 1))
    assert artifact_key(own(built)) == before
    built.rename(built.with_name("moved"))
    moved = built.with_name("moved")
    assert artifact_key(own(moved)) == before
    (moved / "tool").write_text("two")
    changed = artifact_key(own(moved))
    assert changed != before
    (moved / "tool").write_text("one")
    assert artifact_key(own(moved)) == before
    (moved / "data" / "a").write_text("b")
    assert artifact_key(own(moved)) not in {before, changed}
    (moved / "tool").unlink()
    assert artifact_key(own(moved)) not in {before, changed}


def test_a_change_that_keeps_size_and_mtime_is_seen(built: Path) -> None:
    before = artifact_key(own(built))
    status = (built / "tool").stat()
    (built / "tool").write_text("two")
    os.utime(built / "tool", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert artifact_key(own(built)) != before


def test_an_unwritable_or_damaged_memory_of_fingerprints_is_no_error(
    built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = artifact_key(own(built))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XK8S_CACHE", str(tmp_path / "file" / "below"))
    assert artifact_key(own(built)) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "fingerprints.json").write_text('{"a": 1}')
    monkeypatch.setenv("XK8S_CACHE", str(tmp_path / "other"))
    assert artifact_key(own(built)) == before
