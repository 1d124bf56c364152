"""Settings: sources by strength, types, and errors that say where and what."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from xk8s.errors import UsageError
from xk8s.names.convert import convert, text
from xk8s.names.request import Request
from xk8s.names.settings import Settings
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


@frozen(kw_only=True)
class Api:
    """Names with underscores in them, one of them the beginning of another."""

    apiserver_args: tuple[str, ...] = setting((), "more arguments")
    apiserver_feature_gates: dict[str, bool] = setting({}, "gates")
    feature_gates: dict[str, bool] = setting({}, "gates")
    log_level: int = setting(1, "how much")
    log: dict[str, str] = setting({}, "where")


def api(*sets: str, toml: str | None = None, tmp_path: Path | None = None) -> Api:
    path = None
    if toml is not None:
        assert tmp_path is not None
        path = tmp_path / "x.toml"
        path.write_text(toml)
    request = Request(overlays=(), sets=sets, config_file=path, environment={})
    value = Settings(request).load("p", Api)
    assert isinstance(value, Api)
    return value


NAMES = ("apiserver_args", "apiserver_feature_gates", "feature_gates", "log_level")


@given(st.sampled_from(NAMES), st.data())
def test_a_dot_in_a_name_is_an_underscore(name: str, data: st.DataObject) -> None:
    words = name.split("_")
    dots = data.draw(st.lists(st.sampled_from("._"), min_size=len(words), max_size=len(words)))
    written = "".join(word + dot for word, dot in zip(words, dots, strict=True))[:-1]
    value = "7" if name == "log_level" else "A=true"
    expected = {"log_level": 7, "apiserver_args": ("A=true",)}.get(name, {"A": True})
    assert getattr(api(f"p.{written}={value}"), name) == expected


@pytest.mark.parametrize(
    "toml",
    [
        '[p]\napiserver_args = ["--v=6"]',
        '[p.apiserver]\nargs = ["--v=6"]',
        'p.apiserver.args = ["--v=6"]',
        '[p]\n"apiserver.args" = ["--v=6"]',
        '[p]\napiserver = { args = ["--v=6"] }',
    ],
)
def test_tables_of_a_file_are_dots(toml: str, tmp_path: Path) -> None:
    assert api(toml=toml, tmp_path=tmp_path).apiserver_args == ("--v=6",)


def test_a_table_may_be_a_value(tmp_path: Path) -> None:
    value = api(
        toml="[p.apiserver.feature_gates]\nA = true\n[p.feature_gates]\nargs = false\n"
        "[p.log]\nplace = 'here'",
        tmp_path=tmp_path,
    )
    assert value.apiserver_feature_gates == {"A": True}
    assert value.feature_gates == {"args": False}
    assert value.log == {"place": "here"}


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        (
            "[p]\napiserver_args = []\n[p.apiserver]\nargs = []",
            "p.apiserver_args and p.apiserver.args are the same setting",
            "only once",
        ),
        ("[p.log]\nlevel = 4", "[p.log] may mean p.log or p.log_level", "write log_level = …"),
        ("[p.apiserver]\narg = []", "there is no setting p.apiserver.arg", "'apiserver_args'"),
        ("[p.log_level]\na = 1", "{'a': 1} is not a value for p.log_level", "int"),
    ],
)
def test_tables_that_say_nothing_clear(toml: str, message: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        api(toml=toml, tmp_path=tmp_path)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.where == str(tmp_path / "x.toml")


def test_two_spellings_on_one_command_line() -> None:
    with pytest.raises(UsageError, match=r"p\.log\.level and p\.log_level are the same") as caught:
        api("p.log.level=1", "p.log_level=1")
    assert caught.value.where == "command line"


def test_lists_and_tables_of_one_command_line_add_up(tmp_path: Path) -> None:
    value = api(
        "p.apiserver.args=--v=6", "p.feature_gates=A=true,B=true", "p.log_level=2",
        "p.apiserver.args=--audit-log-path=/a,--x", "p.feature_gates=B=false", "p.log_level=3",
        toml='[p]\napiserver_args = ["--from-the-file"]', tmp_path=tmp_path,
    )  # fmt: skip
    assert value.apiserver_args == ("--v=6", "--audit-log-path=/a", "--x")
    assert value.feature_gates == {"A": True, "B": False}
    assert value.log_level == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '["--feature-gates=A=true,B=false", "--v=6"]',
            ("--feature-gates=A=true,B=false", "--v=6"),
        ),
        ("['--gates=A=true,B=false']", ("--gates=A=true,B=false",)),
        (' [ "a b" , ] ', ("a b",)),
        ('["", " x "]', ("", " x ")),
        ("[]", ()),
        ("", ()),
        ("a, b,,", ("a", "b")),
    ],
)
def test_lists_as_json_toml_or_with_commas(text: str, expected: tuple[str, ...]) -> None:
    assert api(f"p.apiserver.args={text}").apiserver_args == expected


@pytest.mark.parametrize("text", ['{"A": true, "B": false}', "{A = true, B = false}", "A=on,B=0"])
def test_tables_as_json_toml_or_with_commas(text: str) -> None:
    assert api(f"p.feature_gates={text}").feature_gates == {"A": True, "B": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('p.apiserver.args=["--a', "begins like JSON or TOML but is neither"),
        ('p.apiserver.args=["--a"] --b', "neither"),
        ("p.apiserver.args=['a']\nmore = 1", "more text follows"),
        ("p.apiserver.args={a = 'b'}", "is not a value for p.apiserver_args"),
        ("p.feature_gates=['a']", "is not a value for p.feature_gates"),
        ("p.apiserver.args=[1]", "is not a value for p.apiserver_args"),
        ("p.apiserver.args=" + "[" * 100_000, "neither"),
    ],
)
def test_lists_and_tables_that_do_not_parse(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        api(text)
    assert message in str(caught.value)
    assert "it takes" in caught.value.hint


def test_a_text_may_begin_with_a_bracket() -> None:
    assert load("p.dir=[own]").dir == "[own]"


ITEMS = st.text(max_size=8)


@given(st.lists(ITEMS, max_size=4))
def test_a_list_is_shown_as_it_can_be_written(items: list[str]) -> None:
    shown = text(tuple(items))
    if items:
        assert convert("k", [shown], tuple[str, ...], "test") == tuple(items)
    else:
        assert shown == "(none)"


@given(st.dictionaries(ITEMS.filter(bool), st.booleans(), min_size=1, max_size=4))
def test_a_table_is_shown_as_it_can_be_written(table: dict[str, bool]) -> None:
    assert convert("k", [text(table)], dict[str, bool], "test") == table


def test_a_setting_inside_of_a_table_on_the_command_line_is_told_how() -> None:
    with pytest.raises(UsageError, match=r"no setting p\.apiserver\.feature_gates\.A") as caught:
        api("p.apiserver.feature_gates.A=true")
    assert "p.apiserver_feature_gates=NAME=VALUE" in caught.value.hint


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
        ("p.mode=iptable", "'iptable' is not a value for p.mode", "nftables | ipvs"),
        ("p.replicas=many", "'many' is not a value for p.replicas", "int"),
        ("p.strict=perhaps", "'perhaps' is not a value for p.strict", "bool"),
        ("p.memory=512", "'512' is not a value for p.memory", "str=int"),
        ("p.replica=3", "there is no setting p.replica", "'replicas'"),
        ("replicas=3", "'replicas=3' is not a setting", "overlay.field=value"),
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
    with pytest.raises(UsageError, match="no selected overlay is named 'q'"):
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
