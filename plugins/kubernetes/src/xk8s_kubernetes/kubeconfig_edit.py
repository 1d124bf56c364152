"""Put one cluster into the text of a kubeconfig, or remove it: text in, text out.

Everything that is not the cluster's own stays as its owner wrote it, byte for byte: comments,
order, quotes, anchors. kubectl itself loses the first two. The change is first made on the YAML
nodes, where its meaning is clear; then in the text, which is used only if it parses to exactly
those nodes. For a text in a style other than kubectl's (flow style, for example) the nodes are
written out: that loses comments, but no value changes its form, as it would with Python's values
(``0123`` and ``1.10`` for example).

The round trip of ruamel.yaml is not used: it keeps comments, but indents all sequences of a file
alike, so a file that mixes two styles would not stay as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from attrs import field, frozen
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from xk8s_kubernetes.kubeconfig_nodes import LISTS, NotKubeconfig, parse, same, write

_FIELDS = {"clusters": "cluster", "users": "user"}
_EXTENSION = "xk8s.local"
"""Extension of our context: what the file was like before, so that it can be removed without a
trace.
"""
KEYS = (*LISTS, "current-context")

Config = dict[str, Any]


class _Unsuited(Exception):
    """The text cannot be edited in place."""


@frozen(kw_only=True)
class _Change:
    """Changes by list: names to remove, and entries to add (in the place of the same name's).
    ``forget`` are keys that are removed once they are empty.
    """

    drop: Mapping[str, frozenset[str]] = field(factory=dict)
    put: Mapping[str, tuple[Config, ...]] = field(factory=dict)
    current: str | None = None
    forget: frozenset[str] = frozenset()


def merged(text: str, new: Config, *, use: bool = True) -> str:
    """Return the text with the one cluster, user and context of ``new``; the context keeps what
    others added to entries with their names (a namespace, for example). ``use`` makes the context
    the current one, which also happens if there was none. `NotKubeconfig` as for `parse`.
    """
    root = parse(text)
    (context,) = new["contexts"]
    name = context["name"]
    old = next((entry for entry in _entries(root, "contexts") if _name(entry) == name), None)
    body = dict(context["context"])
    known: Config = {}
    if old is not None:
        body = {**_value(_get(old, "context")), **body}
        known = _known(_get(old, "context"))
    elif root is not None and (added := [key for key in KEYS if _get(root, key) is None]):
        known["added"] = ",".join(added)
    before = _current(root)
    use = use or not before
    keep = "previous-context" in known and before in ours(text)
    if use and before not in ("", name) and not keep:
        known["previous-context"] = before
    mine = {"name": _EXTENSION, "extension": known}
    others = body.get("extensions") or []
    body["extensions"] = [
        *(extension for extension in others if extension.get("name") != _EXTENSION),
        mine,
    ]
    put = {key: tuple(new[key]) for key in LISTS if key != "contexts"}
    change = _Change(
        put={**put, "contexts": ({**context, "context": body},)}, current=name if use else None
    )
    return _apply(text, root, change)


def without(text: str, name: str) -> str:
    """Return the text without that context, and without its cluster and user unless other contexts
    use them. If it was the current one, the previous one becomes current again if it still exists.
    """
    root = parse(text)
    left = {_name(entry): _get(entry, "context") for entry in _entries(root, "contexts")}
    gone = left.pop(name, None)
    if gone is None:
        return text
    known = _known(gone)
    drop = {"contexts": frozenset({name})}
    for key, part in _FIELDS.items():
        used = {_text(_get(context, part)) for context in left.values()}
        drop[key] = frozenset({_text(_get(gone, part))} - used - {""})
    now = None
    if _current(root) == name:
        before = known.get("previous-context", "")
        now = before if before in left else ""
    forget = frozenset(known.get("added", "").split(","))
    return _apply(text, root, _Change(drop=drop, current=now, forget=forget))


def contexts(text: str) -> tuple[str, ...]:
    """Return the names of the contexts, in order."""
    return tuple(_name(entry) for entry in _entries(parse(text), "contexts"))


def ours(text: str) -> tuple[str, ...]:
    """Return the names of those that were merged here."""
    return tuple(
        _name(entry)
        for entry in _entries(parse(text), "contexts")
        if _extension(_get(entry, "context")) is not None
    )


def current(text: str) -> str:
    """Return the current context, or ""."""
    return _current(parse(text))


def _apply(text: str, root: MappingNode | None, change: _Change) -> str:
    if root is None:
        whole: Config = {"apiVersion": "v1", "kind": "Config"}
        whole |= {key: list(change.put.get(key, ())) for key in LISTS}
        whole["current-context"] = change.current or ""
        return _ended(text) + yaml.safe_dump(whole, sort_keys=False, width=1 << 20)
    wanted = _on_nodes(root, change)
    try:
        edited = _on_text(text, root, change)
        if same(parse(edited), wanted):
            return edited
    except (_Unsuited, NotKubeconfig):
        pass
    edited = write(wanted)
    if not same(parse(edited), wanted):
        raise NotKubeconfig("it cannot be written as it was read")
    return edited


# --- on the nodes -----------------------------------------------------------------------


def _on_nodes(root: MappingNode, change: _Change) -> MappingNode:
    """Return a new root; nodes of the old one are used, never changed: aliases share them."""
    pairs = {_text(key): (key, value) for key, value in root.value}
    for key in LISTS:
        drop, put = change.drop.get(key, frozenset()), change.put.get(key, ())
        old = _entries(root, key)
        fresh = {entry["name"]: _node(entry) for entry in put}
        items = [fresh.pop(_name(entry), entry) for entry in old if _name(entry) not in drop]
        items += fresh.values()
        if items != old:
            head = pairs[key][0] if key in pairs else _node(key)
            style = pairs[key][1].flow_style if old else False
            list_node = SequenceNode("tag:yaml.org,2002:seq", items, flow_style=style)
            pairs[key] = (head, list_node)
            if not items and key in change.forget:
                del pairs[key]
    if change.current == "" and "current-context" in change.forget:
        del pairs["current-context"]
    elif change.current is not None:
        head = pairs["current-context"][0] if "current-context" in pairs else None
        pairs["current-context"] = (head or _node("current-context"), _node(change.current))
    return MappingNode(root.tag, list(pairs.values()), flow_style=root.flow_style)


def _node(value: Any) -> Node:
    node = yaml.compose(_dump(value), Loader=yaml.SafeLoader)
    assert node is not None
    return node


def _value(context: Node | None) -> Config:
    """Return what an older context of ours has, including others' additions."""
    if context is None:
        return {}
    try:
        value = yaml.safe_load(yaml.serialize(context, Dumper=yaml.SafeDumper)) or {}
    except yaml.YAMLError as error:
        raise NotKubeconfig(f"a context cannot be understood: {error}") from error
    extensions = value.get("extensions") or [] if isinstance(value, dict) else None
    if not isinstance(extensions, list) or not all(
        isinstance(extension, dict) for extension in extensions
    ):
        raise NotKubeconfig(
            "a context is not a mapping, or its extensions are not a list of mappings"
        )
    return dict(value)


def _entries(root: MappingNode | None, key: str) -> list[MappingNode]:
    found = _get(root, key)
    return list(found.value) if isinstance(found, SequenceNode) else []


def _get(node: Node | None, key: str) -> Node | None:
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if _text(name) == key:
                return value  # type: ignore[no-any-return] # types-pyyaml has Any here
    return None


def _text(node: Node | None) -> str:
    return str(node.value) if isinstance(node, ScalarNode) else ""


def _name(entry: Node) -> str:
    return _text(_get(entry, "name"))


def _current(root: MappingNode | None) -> str:
    node = _get(root, "current-context")
    return "" if node is None or node.tag.endswith(":null") else _text(node)


def _extension(context: Node | None) -> Node | None:
    found = _get(context, "extensions")
    items = found.value if isinstance(found, SequenceNode) else []
    return next((extension for extension in items if _name(extension) == _EXTENSION), None)


def _known(context: Node | None) -> dict[str, str]:
    """Return what our extension of the context says."""
    extension = _get(_extension(context), "extension")
    pairs = extension.value if isinstance(extension, MappingNode) else []
    return {_text(key): _text(value) for key, value in pairs}


# --- in the text ------------------------------------------------------------------------


@frozen
class _Span:
    """Replace ``start`` to ``end`` of the text."""

    start: int
    end: int
    new: str = ""


def _on_text(text: str, root: MappingNode, change: _Change) -> str:
    if root.flow_style or root.start_mark.column:
        raise _Unsuited
    pairs = {_text(key): (key, value) for key, value in root.value}
    spans: list[_Span] = []
    tail = ""
    for key in LISTS:
        put = change.put.get(key, ())
        if key in pairs:
            drop = change.drop.get(key, frozenset())
            spans += _list_spans(text, *pairs[key], drop, put, forget=key in change.forget)
        elif put:
            tail += _dump({key: list(put)})
    if change.current is not None:
        if change.current == "" and "current-context" in change.forget:
            spans.append(_line(text, pairs["current-context"][0]))
        elif "current-context" in pairs:
            spans.append(_value_span(text, *pairs["current-context"], _scalar(change.current)))
        else:
            tail += f"current-context: {_scalar(change.current)}\n"
    newline = "\r\n" if "\r\n" in text else "\n"
    result, end = "", len(text)
    for span in sorted(spans, key=lambda span: (span.start, span.end), reverse=True):
        if span.end > end:
            raise _Unsuited
        result = span.new.replace("\n", newline) + text[span.end : end] + result
        end = span.start
    result = text[:end] + result
    return _ended(result, newline) + tail.replace("\n", newline) if tail else result


def _list_spans(
    text: str,
    key: Node,
    value: Node,
    drop: frozenset[str],
    put: tuple[Config, ...],
    *,
    forget: bool,
) -> Iterator[_Span]:
    items = value.value if isinstance(value, SequenceNode) else []
    if not items:
        if put:
            yield _value_span(text, key, value, "\n" + _dump(list(put)).rstrip("\n"))
        return
    if _is_flow(value):
        raise _Unsuited
    lines = list(_item_lines(text, value))
    indent = re.match(" *", text[lines[0][0] :])[0]  # type: ignore[index] # it matches anything
    fresh = {entry["name"]: _indented(_dump([entry]), indent) for entry in put}
    for item, (start, end) in zip(items, lines, strict=True):
        if (new := fresh.pop(_name(item), None)) is not None:
            yield _Span(start, end, new)
        elif _name(item) in drop:
            yield _Span(start, end)
    if fresh:
        end = lines[-1][1]
        yield _Span(end, end, ("" if text[:end].endswith("\n") else "\n") + "".join(fresh.values()))
    elif all(_name(item) in drop for item in items):
        colon = _colon(text, key)
        yield _line(text, key) if forget else _Span(colon, colon, " []")


def _item_lines(text: str, sequence: Node) -> Iterator[tuple[int, int]]:
    """Return for each item of a block sequence: from the line with its dash to its last
    line's end.
    """
    least = 0
    for item in sequence.value:
        start = text.rfind("\n", 0, item.start_mark.index) + 1
        if not re.fullmatch(" *- +", text[start : item.start_mark.index]) or start < least:
            raise _Unsuited
        content = text[: _last(item)].rstrip()
        end = text.find("\n", len(content)) + 1 or len(text)
        yield start, end
        least = end


def _is_flow(node: Node) -> bool:
    return bool(getattr(node, "flow_style", False))


def _last(node: Node) -> int:
    """Return where the last scalar (or flow collection) below the node ends: a block's own end is
    at whatever comes next, after its comments.
    """
    while not isinstance(node, ScalarNode) and not _is_flow(node) and node.value:
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return int(node.end_mark.index)


def _line(text: str, key: Node) -> _Span:
    """Return the whole line of a key, without what may follow."""
    return _Span(int(key.start_mark.index), text.find("\n", _colon(text, key)) + 1 or len(text))


def _value_span(text: str, key: Node, value: Node, new: str) -> _Span:
    """Replace a value that is on its key's line, or begins there and continues in quotes."""
    start = _colon(text, key)
    end = max(start, int(value.end_mark.index))
    if not isinstance(value.start_mark.index, int):
        raise _Unsuited
    quoted = isinstance(value, ScalarNode) and value.style in ("'", '"')
    begun = int(value.start_mark.index) if quoted else end
    if "\n" in text[start:begun].rstrip():
        raise _Unsuited
    if value.start_mark.index < key.end_mark.index:
        raise _Unsuited  # an alias: its node is where the anchor is
    end = start + len(text[start:end].rstrip())
    return _Span(start, end, new if new.startswith("\n") else f" {new}")


def _colon(text: str, key: Node) -> int:
    """Return the position after the colon that follows the key."""
    end = int(key.end_mark.index)
    if text[end : end + 1] != ":":
        raise _Unsuited
    return end + 1


def _dump(value: Any) -> str:
    # Anything but ASCII is escaped: readers differ in what they treat as a space.
    return yaml.safe_dump(value, sort_keys=False, width=1 << 20)


def _scalar(value: str) -> str:
    return _dump(value).partition("\n")[0] if value else '""'


def _indented(text: str, indent: str) -> str:
    return "".join(indent + line for line in text.splitlines(keepends=True))


def _ended(text: str, newline: str = "\n") -> str:
    return text if not text or text.endswith("\n") else text + newline
