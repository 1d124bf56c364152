"""A cluster goes into a kubeconfig and out again, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xk8s_kubernetes.kubeconfig_edit import contexts, current, merged, without
from xk8s_kubernetes.kubeconfig_nodes import LISTS, NotKubeconfig, parse, same


def cluster(name: str, **more: Any) -> dict[str, Any]:
    """As `xk8s_kubernetes.kubeconfig` makes it."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}", **more}}],
        "users": [{"name": f"{name}-admin", "user": {"client-key-data": "a2V5"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
        "current-context": name,
    }


A = cluster("xk8s-a")

USERS = """\
# Mine, and I like it like this.
apiVersion: v1
clusters:
# The one at work:
- cluster:   # comes first
    server: 'https://work.example:6443'
  name: work
  # below its last line

contexts:  # two spaces here
  - {name: work, context: {cluster: work, user: "me"}}
current-context: work  # for now
kind: Config
preferences: {colors: yes}
users:
- name: me
  user:
    # Octal, a date and a version, for who reads YAML as Python does.
    password: 0123
    token: 2026-01-01T00:00:00Z
    exec: {apiVersion: 1.10, args: [&a x, *a]}
"""


def test_the_users_own_text_stays_to_the_byte() -> None:
    both = merged(USERS, A)
    assert contexts(both) == ("work", "xk8s-a")
    assert current(both) == "xk8s-a"
    # Only lines are added, but for the current context.
    assert [line for line in USERS.splitlines() if line not in both.splitlines()] == [
        "current-context: work  # for now"
    ]
    assert "current-context: xk8s-a  # for now\n" in both
    assert without(both, "xk8s-a") == USERS
    loaded = yaml.safe_load(both)
    assert [user["name"] for user in loaded["users"]] == ["me", "xk8s-a-admin"]
    assert loaded["clusters"][1] == A["clusters"][0]


def test_with_two_clusters_each_goes_by_itself() -> None:
    both = merged(merged(USERS, A), cluster("xk8s-b"))
    assert contexts(both) == ("work", "xk8s-a", "xk8s-b")
    # b's previous one was a; when a is gone there is no previous one.
    assert current(without(both, "xk8s-b")) == "xk8s-a"
    left = without(without(both, "xk8s-a"), "xk8s-b")
    assert left == USERS.replace("current-context: work ", 'current-context: "" ')
    assert without(without(both, "xk8s-b"), "xk8s-a") == USERS


def test_merged_twice_is_once_and_a_new_one_takes_the_olds_place() -> None:
    once = merged(USERS, A)
    assert merged(once, A) == once
    other = merged(once + "# the end\n", cluster("xk8s-a", **{"tls-server-name": "x"}))
    loaded = yaml.safe_load(other)
    assert [cluster["name"] for cluster in loaded["clusters"]] == ["work", "xk8s-a"]
    assert loaded["clusters"][1]["cluster"]["tls-server-name"] == "x"
    assert without(other, "xk8s-a") == USERS + "# the end\n"


def test_a_namespace_that_was_chosen_since_is_kept() -> None:
    once = yaml.safe_load(merged(USERS, A))
    once["contexts"][1]["context"]["namespace"] = "mine"
    again = yaml.safe_load(merged(yaml.safe_dump(once), A))
    assert again["contexts"][1]["context"]["namespace"] == "mine"
    assert len(again["contexts"][1]["context"]["extensions"]) == 1


def test_not_to_be_used_leaves_the_current_one() -> None:
    assert current(merged(USERS, A, use=False)) == "work"
    assert without(merged(USERS, A, use=False), "xk8s-a") == USERS
    # Where there is none, it is the one.
    assert current(merged("", A, use=False)) == "xk8s-a"


def test_the_current_one_that_the_user_chose_since_stays() -> None:
    both = merged(USERS, A).replace("current-context: xk8s-a", "current-context: work")
    assert without(both, "xk8s-a") == USERS


def test_remove_leaves_what_other_contexts_use() -> None:
    more = "  - {name: mine, context: {cluster: xk8s-a, user: me}}\n"
    shared = merged(USERS.replace("current-context", f"{more}current-context"), A)
    rest = yaml.safe_load(without(shared, "xk8s-a"))
    assert [cluster["name"] for cluster in rest["clusters"]] == ["work", "xk8s-a"]
    assert [user["name"] for user in rest["users"]] == ["me"]
    assert [context["name"] for context in rest["contexts"]] == ["work", "mine"]


def test_what_is_not_there_is_not_removed() -> None:
    assert without(USERS, "xk8s-a") == USERS
    assert without("", "xk8s-a") == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing but a comment",
        "---\n",
        "{}\n",
        "clusters:\nusers: ~\ncontexts:   # none\n",
        "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\ncurrent-context: ''",
        '{"clusters": [], "contexts": [{"name": "x", "context": {}}], "current-context": "x"}',
        "contexts: &c\n- name: x\n  context: {}\nother: *c\n",
        "other: &c\n- name: x\n  context: {}\ncontexts: *c\n",
        "x: &x {name: x, context: {}}\ncontexts:\n- *x\n",
        "contexts:\n- name: x\n  context: {}\n  more: |\n    text\n\n    more\n\n\nusers: []\n",
        "contexts:\n-\n  name: x\n  context: {}\n",
        "contexts:\n- # hm\n  name: x\n",
        "contexts:\n- ? name\n  : x\n",
        '"contexts":\n- "name": "x"\n"current-context": !!str x\n',
        "contexts:\n- name: x\n...\n",
        "--- # here\ncontexts:\n- name: x\n",
        "  contexts:\n  - name: x\n",
        "contexts:\n- name: x\n  context: !mine {a: 1}\nkind: !yours Config\n",
        "current-context: >-\n  x\ncontexts:\n- name: x\n",
        "current-context: &n x\ncontexts:\n- name: *n\n",
        "contexts: # a\n# b\n- name: x # c\n\n# d\n",
        "contexts:\r\n- name: x\r\ncurrent-context: x\r\n",
        "contexts:\n- name: x\ncurrent-context:\n",
        "contexts:\n- name: x\ncurrent-context: null\n",
        'a: "x\u2028  y"\ncontexts:\n- name: x\n',
        "contexts:\n- name: \u00e9\U0001f600\n  context: {}\ncurrent-context: \u00e9\U0001f600\n",
    ],
)
def test_whatever_the_style(text: str) -> None:
    both = merged(text, A)
    names = contexts(text)
    assert contexts(both) == (*names, "xk8s-a")
    assert current(both) == "xk8s-a"
    for key in LISTS:
        assert A[key][0]["name"] in [entry["name"] for entry in plain(both)[key]]
    back = without(both, "xk8s-a")
    assert equal(back, text)
    if both.startswith(text.rstrip("\n")):
        assert not text or back.startswith(text.rstrip("\n"))


def plain(text: str) -> Any:
    """The data, all scalars as they are written."""
    return yaml.load(text, Loader=yaml.BaseLoader) or {}


def equal(one: str, two: str) -> bool:
    """As data; no entries are the same as no list."""

    def normal(text: str) -> Any:
        data = plain(text)
        for key in LISTS:
            if data.get(key) in ([], "", "~", "null"):
                del data[key]
        if data.get("current-context") in ("", "null"):
            del data["current-context"]
        # An empty file gets these.
        return {"apiVersion": "v1", "kind": "Config"} | data

    return bool(normal(one) == normal(two))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- a\n", "not a mapping"),
        ("just a word", "not a mapping"),
        ("a: [", "expected"),
        ("clusters: 3\n", "clusters is not a list"),
        ("clusters: {a: 1}\n", "clusters is not a list"),
        ("contexts: [1]\n", "contexts is not a list"),
        ("\x00", "special characters|control characters"),
        ("a: 1\n---\nb: 1\n", "document"),
        ("clusters: []\nusers: []\nclusters: []\n", "key 'clusters' is used twice"),
        ("users:\n- name: a\n- name: a\n", "name in users 'a' is used twice"),
        ("users:\n- name: a\n  name: b\n", "key in users 'name' is used twice"),
        ("a: *b\n", "undefined alias"),
        ("? [a]\n: 1\n? [b]\n: 2\n", "a key is not a string"),
        ("contexts:\n- name: xk8s-a\n  context: !mine {}\n", "cannot be understood"),
        ("contexts:\n- name: xk8s-a\n  context: [1]\n", "not a mapping"),
        ("contexts:\n- name: xk8s-a\n  context: {extensions: 3}\n", "not a mapping, or its ext"),
        ("a: &a [*a]\n", "contains itself"),
        ("a: " + "[" * 200_000, "nested more than"),
        ("- " * 200_000, "nested more than"),
    ],
)
def test_what_is_no_kubeconfig_is_refused(text: str, why: str) -> None:
    with pytest.raises(NotKubeconfig, match=why):
        merged(text, A)


def test_aliases_that_multiply_cost_no_time() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 30)]
    bomb = "\n".join(lines) + "\n"
    assert without(merged(bomb, A), "xk8s-a").startswith(bomb)


def test_thousands_of_clusters() -> None:
    entries = [
        f"- name: c{n}\n  cluster:\n    certificate-authority-data: {'QUJD' * 400}\n"
        for n in range(2000)
    ]
    text = "clusters:\n" + "".join(entries) + "contexts:\n- name: x\nusers:\n- name: y\n"
    text += "current-context: x\n"
    assert without(merged(text, A), "xk8s-a") == text


# --- arbitrary ones ---------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)
NAMES = st.one_of(WORDS.filter(bool), st.sampled_from(["yes", "0123", "1.10", "null", "~", "a: b"]))
VALUES = st.recursive(
    st.one_of(WORDS, st.booleans(), st.integers(), st.none(), st.dates(), st.just("a\nb\n")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A kubeconfig as data, with more in it than ours has."""
    config: dict[str, Any] = draw(
        st.dictionaries(NAMES.filter(lambda n: n not in (*LISTS, "current-context")), VALUES,
                        max_size=3)
    )  # fmt: skip
    names: list[str] = []
    for key, part in zip(LISTS, ("cluster", "user", "context"), strict=True):
        names = draw(st.lists(NAMES, max_size=4, unique=True))
        if names or draw(st.booleans()):
            config[key] = [
                {"name": name, part: draw(st.dictionaries(NAMES, VALUES, max_size=3))}
                for name in names
            ]
    if draw(st.booleans()):
        config["current-context"] = draw(st.sampled_from([*names, "", "gone"]))
    return config


@st.composite
def texts(draw: st.DrawFn) -> str:
    """It in some style."""
    text: str = yaml.safe_dump(
        draw(configs()),
        default_flow_style=draw(st.sampled_from([False, False, False, None, True])),
        default_style=draw(st.sampled_from([None, None, '"', "'"])),
        allow_unicode=draw(st.booleans()),
        sort_keys=draw(st.booleans()),
        explicit_start=draw(st.booleans()),
        indent=draw(st.sampled_from([2, 4])),
    )
    if draw(st.booleans()) and "|" not in text and '"' not in text and "'" not in text:
        # Between lines that are no part of a scalar of several lines comments may stand.
        text = "".join(
            line + ("# a comment - with: dashes\n" if line[:1].isalpha() else "")
            for line in text.splitlines(keepends=True)
        )
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def lines(text: str) -> list[str]:
    """All but the current context, which may come back in other quotes. A long one goes on in
    indented lines.
    """
    kept, inside = [], False
    for line in text.splitlines():
        inside = "current-context" in line or (inside and line[:1] == " ")
        if not inside:
            kept.append(line)
    return kept


LONG = '"\\"\\xA1\\u0100\\u0100\\u0100\\U00010000\\U00010000\\U00010000\\U00010000'
"""A name that YAML writes in two lines where it is longer than a line may be."""


@example(
    "contexts:\n" + "".join(f"- name: '{n}'\n  context: {{}}\n" for n in ("0", "1", "00"))
    + f'- name: {LONG}0"\n  context: {{}}\ncurrent-context: {LONG}\\\n  0"\n',
    True,
)  # fmt: skip
@settings(max_examples=200, deadline=None)
@given(texts(), st.booleans())
def test_merge_then_remove_gives_the_original(text: str, use: bool) -> None:
    try:
        parse(text)
    except NotKubeconfig:
        return  # two documents, say, by a comment in an unlucky place
    both = merged(text, A, use=use)
    assert contexts(both) == (*contexts(text), "xk8s-a")
    back = without(both, "xk8s-a")
    gone = current(text) not in contexts(text)
    if gone:  # a current context that was not there is not put back
        return
    assert equal(back, text)
    if same(parse(back), parse(text)) and not text.startswith(("{", "--- {")):
        assert lines(back) == lines(text)


@settings(max_examples=100, deadline=None)
@given(texts())
def test_a_second_cluster_changes_nothing_of_the_first(text: str) -> None:
    try:
        parse(text)
    except NotKubeconfig:
        return
    one = merged(text, A)
    two = without(merged(one, cluster("xk8s-b")), "xk8s-b")
    assert same(parse(two), parse(one))
