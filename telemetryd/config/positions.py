"""Read YAML into plain data, and find the line and column of any value in it.

PyYAML's C composer gives nodes with marks; they are walked once into dictionaries, lists and
scalars and then dropped. Positions are wanted only for a mistake, so :meth:`YamlDocument.locate`
composes the same text a second time, on the first question.

Scalars follow the YAML 1.2 core schema, not YAML 1.1: ``18:00``, ``on``, ``no`` and ``2026-11-28``
are texts, as their writer meant. Mapping keys are always texts.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from telemetryd.errors import Problem

PathInData: TypeAlias = tuple[str | int, ...]

MAX_DEPTH: Final = 100  # the C composer recurses once a level and would overrun its stack at about 10^5
_TOO_DEEP: Final = f"values nested more than {MAX_DEPTH} deep"
MAX_ALIASED_VALUES: Final = 1_000_000  # an alias of aliases of aliases grows exponentially

_PLAIN, _QUOTED = "", "!"
_STR_TAG: Final = "tag:yaml.org,2002:str"
_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
)
_MAY_BE_NUMBER: Final = frozenset("+-.0123456789")
_MAX_DIGITS: Final = 4000  # int() refuses more than 4,300 digits


class _TooDeepError(yaml.MarkedYAMLError):
    """Nesting beyond :data:`MAX_DEPTH`."""


class _Loader(yaml.CSafeLoader):
    """The C composer, without YAML 1.1's implicit types, and with a limit to nesting."""

    depth = 0

    def resolve(self, kind: type, value: Any, implicit: Any) -> str:  # a scalar's style is all we keep
        return _PLAIN if kind is yaml.ScalarNode and implicit[0] else _QUOTED

    def descend_resolver(self, parent: Any, _index: Any) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeepError(problem=_TOO_DEEP, problem_mark=parent.start_mark)

    def ascend_resolver(self) -> None:
        self.depth -= 1


@contextmanager
def without_gc() -> Iterator[None]:
    """Pause the cycle collector: it walks a growing tree again and again (3 x the time)."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """Give a plain scalar its value by the YAML 1.2 core schema (section 10.3.2)."""
    if text in _NULLS:
        return None
    if text[0] in _MAY_BE_NUMBER and len(text) < _MAX_DIGITS:
        if _INT.match(text):
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if _FLOAT.match(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return text
    return _BOOLS.get(text, text)


class YamlDocument:
    """One YAML file: its data, and the position of everything in it.

    Attributes
    ----------
    file:
        Name used in problems.
    text:
        What was read; positions refer to it, even if the file has changed since.
    data:
        Dictionaries, lists, texts, numbers, booleans and None.
    """

    __slots__ = ("_root", "data", "file", "text")

    def __init__(self, file: str, text: str, data: Any) -> None:
        self.file = file
        self.text = text
        self.data = data
        self._root: yaml.Node | None = None

    def node(self, path: PathInData) -> tuple[yaml.Node | None, yaml.Node, int]:
        """Return (key node, value node, depth reached) of the value at `path`, or of its nearest parent."""
        if self._root is None:
            with without_gc():
                self._root = yaml.compose(self.text, _Loader)
        key: yaml.Node | None = None
        node = self._root
        assert node is not None, "a document without a node has no data to ask about"
        for depth, step in enumerate(path):
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if pair[0].value == step), None)
                if pair is None:
                    return key, node, depth
                key, node = pair
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                key, node = None, node.value[step]
            else:
                return key, node, depth
        return key, node, len(path)

    def locate(self, path: PathInData, *, key: bool = False) -> tuple[int, int]:
        """Return (line, column), from 1, of the value at `path`, or of its nearest parent that exists.

        With ``key`` it is the position of the value's key, where it has one.
        """
        key_node, node, depth = self.node(path)
        if key and key_node is not None and depth == len(path):
            node = key_node
        return node.start_mark.line + 1, node.start_mark.column + 1

    def where(self, path: PathInData, *, key: bool = False) -> tuple[str, int, int]:
        """Return (file, line, column): what :class:`telemetryd.errors.Problem` starts with."""
        return self.file, *self.locate(path, key=key)


def read_yaml(path: Path, problems: list[Problem]) -> YamlDocument | None:
    """Read a file; append every mistake to `problems` and return None where there is no data to use."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        problems.append(Problem(str(path), 0, 0, f"cannot be read: {error.strerror}", "check name and permissions"))
        return None
    return parse_yaml(octets, str(path), problems)


def parse_yaml(source: bytes | str, file: str, problems: list[Problem]) -> YamlDocument | None:
    """Parse a YAML text; append every mistake to `problems` and return None where there is no data to use.

    Duplicate keys, unknown tags and endless aliases are mistakes; the data then is None, since
    what was meant is not known. An empty document is a mistake too.
    """
    if isinstance(source, bytes):
        try:
            text = source.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line, column = _position_of(source[: error.start].decode("utf-8", "replace"))
            problems.append(Problem(file, line, column, "is not UTF-8 text", "save the file as UTF-8"))
            return None
    else:
        text = source
    with without_gc():
        try:
            root = yaml.compose(text, _Loader)
        except yaml.YAMLError as error:
            problems.append(_syntax_problem(error, file, text))
            return None
        if root is None:
            problems.append(Problem(file, 1, 1, "the file is empty", 'write its content, starting with "version: 1"'))
            return None
        builder = _Builder(file)
        data = builder.build(root)
    if builder.problems:
        problems.extend(builder.problems)
        return None
    return YamlDocument(file, text, data)


def _position_of(before: str) -> tuple[int, int]:
    """Return the (line, column) that follows the text `before`."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _syntax_problem(error: yaml.YAMLError, file: str, text: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        # The C reader counts octets of the UTF-8 text.
        line, column = _position_of(text.encode()[: error.position].decode("utf-8", "replace"))
        message = f"character U+{error.character:04X} is not allowed in YAML"
        return Problem(file, line, column, message, "remove it, or write it as an escape in double quotes")
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    # Newer scanners stop at a limit of their own, before the composer sees the first level.
    is_too_deep = isinstance(error, _TooDeepError) or "nesting depth" in (error.problem or "")
    message = f"YAML: {_TOO_DEEP if is_too_deep else error.problem}"
    if error.context and not is_too_deep:
        message += f" ({error.context})"
    if is_too_deep:
        remedy = "look for an opening bracket that is never closed"
    elif "tab" in (error.problem or "").split():
        remedy = "indent with spaces, not tabs"
    elif error.problem and "alias" in error.problem:
        remedy = "define the anchor (&name) before its alias, or quote a text that starts with *"
    elif "mapping values" in (error.problem or ""):
        remedy = 'quote a text that holds ": ", or check the indentation'
    else:
        remedy = "check indentation, brackets and quotes here and in the line above"
    return Problem(file, line, column, message, remedy)


class _Builder:
    """Walk composed nodes into plain data, noting mistakes."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.resolved: dict[str, Any] = {}  # names and numbers repeat: resolve each spelling once
        self.shared: dict[int, tuple[Any, int]] = {}  # node id -> (data, values in it), for aliases
        self.open: set[int] = set()
        self.values = 0
        self.aliased = 0

    def build(self, node: yaml.Node) -> Any:
        self.values += 1
        kind = type(node)
        if kind is yaml.ScalarNode:
            return self._scalar(node)
        identity = id(node)
        if identity in self.shared:
            return self._alias(node)
        if identity in self.open:
            self._note(node, "an alias holds itself", "remove the alias (*name) inside its own anchor")
            return None
        if node.tag != _QUOTED and node.tag:
            self._note(node, f"unknown tag {_short_tag(node.tag)}", "remove the tag")
        self.open.add(identity)
        before = self.values
        data = self._mapping(node) if kind is yaml.MappingNode else [self.build(item) for item in node.value]
        self.open.discard(identity)
        self.shared[identity] = (data, self.values - before)
        return data

    def _scalar(self, node: yaml.Node) -> Any:
        tag: str = node.tag
        value: str = node.value
        if tag == _PLAIN:
            try:
                return self.resolved[value]
            except KeyError:
                self.resolved[value] = data = resolve_scalar(value)
                return data
        if tag not in (_QUOTED, _STR_TAG):
            self._note(node, f"unknown tag {_short_tag(tag)}", "remove the tag; quote a text that starts with !")
        return value

    def _mapping(self, node: yaml.Node) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if type(key_node) is not yaml.ScalarNode:
                self._note(key_node, "a key must be a text", "write the key as a plain name")
                continue
            key = key_node.value
            if key in data:
                first = next(pair[0] for pair in node.value if pair[0].value == key).start_mark
                self._note(
                    key_node,
                    f'key "{key}" is written twice',
                    f"keep one of them (the first is at {first.line + 1}:{first.column + 1})",
                )
            data[key] = self.build(value_node)
        return data

    def _alias(self, node: yaml.Node) -> Any:
        data, values = self.shared[id(node)]
        self.values += values
        before, self.aliased = self.aliased, self.aliased + values
        if before <= MAX_ALIASED_VALUES < self.aliased:
            self._note(
                node,
                f"aliases repeat more than {MAX_ALIASED_VALUES} values",
                "write fewer aliases of aliases",
            )
        return data

    def _note(self, node: yaml.Node, message: str, remedy: str) -> None:
        mark = node.start_mark
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, message, remedy))


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
