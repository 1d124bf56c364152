"""Settings: sources by strength, types, and errors that say where and what."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from xk8s.config import Request, Settings
from xk8s.errors import UsageError
from xk8s.overlay import setting


@frozen(kw_only=True)
class Proxy:
    mode: Literal["nftables", "ipvs"] = setting("nftables", "how")
    dir: str | None = setting(None, "own binaries", env="OWN_DIR")
    replicas: int = setting(4, "how many")
    args: tuple[str, ...] = setting((), "more arguments")
    memory: dict[str, int] = setting({}, "MiB")
    strict: bool = setting(False, "strict")


def load(*sets: str, toml: Path | None = None, **environment: str) -> Proxy:
    request = Request(overlays=("p",), sets=sets, config_file=toml, environment=environment)
    value = Settings(request).load("p", Proxy)
    assert isinstance(value, Proxy)
    return value


def test_strength_of_sources(tmp_path: Path) -> None:
    toml = tmp_path / "x.toml"
    toml.write_text('[p]\nmode = "ipvs"\nreplicas = 2\nargs = ["--a", "--b"]\nstrict = true\n')
    value = load("p.replicas=7", toml=toml, XK8S_P_REPLICAS="3", OWN_DIR="/own")
    assert value == Proxy(mode="ipvs", replicas=7, args=("--a", "--b"), strict=True, dir="/own")
    assert load(toml=toml, XK8S_P_REPLICAS="3").replicas == 3


def test_texts_become_types() -> None:
    value = load("p.args=--a,--b", "p.memory=worker=512,vm-001=1024", "p.strict=on")
    assert value.args == ("--a", "--b")
    assert value.memory == {"worker": 512, "vm-001": 1024}
    assert value.strict


def test_origin_is_kept() -> None:
    settings = Settings(Request(overlays=(), sets=("p.mode=ipvs",), environment={"OWN_DIR": "/o"}))
    settings.load("p", Proxy)
    origins = {value.name: value.origin for value in settings.values()}
    assert origins["mode"] == "command line"
    assert origins["dir"] == "environment OWN_DIR"
    assert origins["replicas"] == "default"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("p.mode=iptable", "'iptable' is no value for p.mode", "nftables | ipvs"),
        ("p.replicas=many", "'many' is no value for p.replicas", "int"),
        ("p.strict=perhaps", "'perhaps' is no value for p.strict", "bool"),
        ("p.memory=512", "'512' is no value for p.memory", "str=int"),
        ("p.replica=3", "there is no setting p.replica", "'replicas'"),
        ("replicas=3", "'replicas=3' is no setting", "overlay.field=value"),
    ],
)
def test_bad_settings_say_what_to_do(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.where == "command line"


def test_setting_of_an_overlay_that_is_not_selected() -> None:
    settings = Settings(Request(overlays=(), sets=("q.x=1",), environment={}))
    with pytest.raises(UsageError, match="no selected overlay is called 'q'"):
        settings.check_overlays({"p": None}, frozenset({"p"}))


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    toml = tmp_path / "x.toml"
    toml.write_text("[p\n")
    with pytest.raises(UsageError, match="not TOML") as caught:
        load(toml=toml)
    assert caught.value.where == str(toml)


@given(st.text(max_size=20))
def test_no_text_makes_anything_but_a_usage_error(text: str) -> None:
    for key in ("p.replicas", "p.memory", "p.strict", "p.mode"):
        with contextlib.suppress(UsageError):
            load(f"{key}={text}")


def upper(value: tuple[str, ...]) -> tuple[str, ...]:
    if "no" in value:
        raise UsageError("not this one", where="there", hint="another")
    return tuple(item.upper() for item in value)


@frozen(kw_only=True)
class Pinned:
    words: tuple[str, ...] = setting(("default",), "words", pin=upper)


def test_what_a_user_gave_is_pinned_and_what_is_stored_stays() -> None:
    settings = Settings(Request(overlays=(), sets=("p.words=a,b",), environment={}))
    assert settings.load("p", Pinned).words == ("A", "B")
    assert [value.value for value in settings.values()] == [("A", "B")]
    assert Settings(Request(overlays=(), environment={})).load("p", Pinned).words == ("default",)
    stored = Request(overlays=(), stored={"p": {"words": ["a"]}}, environment={})
    assert Settings(stored).load("p", Pinned).words == ("a",)


def test_what_cannot_be_pinned_says_which_setting_it_was() -> None:
    settings = Settings(Request(overlays=(), sets=("p.words=no",), environment={}))
    with pytest.raises(UsageError, match="not this one") as caught:
        settings.load("p", Pinned)
    assert caught.value.where == "p.words, command line: there"
    assert caught.value.hint == "another"
