"""A kubeconfig as YAML nodes: read, compared and written without loss."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_DEPTH = 100
LISTS = ("clusters", "users", "contexts")


class NotKubeconfig(Exception):
    """Why a text is not a kubeconfig that could be edited."""


def parse(text: str) -> MappingNode | None:
    """Return the root; None for a text without content. `NotKubeconfig` for one that kubectl would
    not read either, or not as we do: not a mapping, a key or a name given twice, several documents.
    """
    try:
        _check_depth(text)
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise NotKubeconfig(str(error)) from error
    if root is None or (isinstance(root, ScalarNode) and root.tag.endswith(":null")):
        return None
    if not isinstance(root, MappingNode):
        raise NotKubeconfig("it is not a mapping")
    if not all(isinstance(key, ScalarNode) for key, _ in root.value):
        raise NotKubeconfig("a key is not a string")
    _no_twice("key", [key.value for key, _ in root.value])
    for key, value in root.value:
        if key.value in LISTS:
            _check_list(key.value, value)
    return root


def _check_depth(text: str) -> None:
    """Raise an error if it is too deep: the binding of libyaml calls itself for each level until
    the stack is exhausted.
    """
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise NotKubeconfig(f"it is nested more than {MAX_DEPTH} deep")
        elif isinstance(event, CollectionEndEvent):
            depth -= 1


def _check_list(key: str, value: Node) -> None:
    if isinstance(value, ScalarNode) and value.tag.endswith(":null"):
        return
    entries = value.value if isinstance(value, SequenceNode) else None
    if entries is None or not all(isinstance(entry, MappingNode) for entry in entries):
        raise NotKubeconfig(f"{key} is not a list of mappings")
    names = []
    for entry in entries:
        keys = [name.value for name, _ in entry.value if isinstance(name, ScalarNode)]
        _no_twice(f"key in {key}", keys)
        names += [
            node.value
            for name, node in entry.value
            if isinstance(name, ScalarNode) and name.value == "name"
        ]
    _no_twice(f"name in {key}", [name for name in names if isinstance(name, str)])


def _no_twice(what: str, names: list[Any]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise NotKubeconfig(f"the {what} {name!r} is used twice")


def same(one: Node | None, two: Node | None) -> bool:
    """Return whether two texts' nodes mean the same: tags, values and their order. Takes time in
    proportion to the nodes, even if aliases multiply them.
    """
    numbers: dict[Any, int] = {}
    return _number(one, numbers, {}) == _number(two, numbers, {})


def _number(node: Any, numbers: dict[Any, int], seen: dict[int, int | None]) -> int:
    """Return a number that is equal for equal trees."""
    if id(node) in seen:
        known = seen[id(node)]
        if known is None:
            raise NotKubeconfig("it contains itself")
        return known
    seen[id(node)] = None
    shape: Any
    if isinstance(node, ScalarNode):
        shape = (node.tag, node.value)
    elif isinstance(node, MappingNode):
        pairs = [(_number(k, numbers, seen), _number(v, numbers, seen)) for k, v in node.value]
        shape = (node.tag, "map", tuple(pairs))
    elif isinstance(node, SequenceNode):
        shape = (node.tag, "seq", tuple(_number(item, numbers, seen) for item in node.value))
    else:
        shape = None
    number = seen[id(node)] = numbers.setdefault(shape, len(numbers))
    return number


def write(root: Node) -> str:
    """Return the nodes as text: order, tags, quotes and aliases as they were, comments lost."""
    text: str = yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True, width=1 << 20)
    return text


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
