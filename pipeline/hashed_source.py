"""What of a module counts as its content: the syntax tree, without prose, and without where our modules lie.

Left out are docstrings, `SENTENCES`, comments, formatting, and blocks for type checkers. A mark replaces the name of a
module of ours: in an import, in an expression, or in a text like "pipeline.train:main". So when a module moves and its
importers follow, no content changes.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from typing import Any, NamedTuple, TypeGuard

from lrpilot import digests
from pipeline.import_graph import PACKAGES, file, is_module, is_package

# Calls with an argument that is a sentence for people, and its place.
SENTENCES = {"Feature": 2}
MARK = ("a module of ours",)
BINDING = {"name", "arg", "rest"}  # fields of nodes that bind a name


class Source(NamedTuple):
    """A module: the hash of its tree with marks, and the module that each mark stands for, in their order."""

    sha256: str
    modules: tuple[str, ...]


@cache
def source(module: str) -> Source:
    """The content of a module, from its file."""
    return _read(file(module).read_bytes(), module if is_package(module) else module.rpartition(".")[0])


@cache
def _read(content: bytes, package: str) -> Source:
    tree = ast.parse(content)
    reader = _Reader(tree, package)
    return Source(digests.of_bytes(repr(reader.plain(tree)).encode()), tuple(reader.modules))


class _Import(NamedTuple):
    """What an import makes of one of our modules: `name` stands for the module, or for an attribute of it."""

    name: str
    attribute: str
    module: str


class _Reader:
    """Turns the tree of a module into nested tuples with marks, and notes what the marks stand for."""

    def __init__(self, tree: ast.Module, package: str) -> None:
        self.package, self.modules = package, list[str]()
        meanings: defaultdict[str, set[str]] = defaultdict(set)
        for name, module in self._bound(tree):
            meanings[name].add(module)
        # A name with two meanings stays, beside the import of it.
        self.named = {name: min(found) for name, found in meanings.items() if len(found) == 1 and "" not in found}

    def plain(self, node: Any) -> Any:
        """A part of the tree, without empty fields, which Python's versions add."""
        if isinstance(node, list):
            return self._statements(node)
        if not isinstance(node, ast.AST):
            return node
        if module := self._reference(node):
            return self._mark(module)
        fields = dict(ast.iter_fields(node))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _documented(node):
            fields["body"] = node.body[1:]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SENTENCES:
            place = SENTENCES[node.func.id]
            fields["args"] = node.args[:place] + node.args[place + 1 :]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, *attribute = node.value.split(":")
            if "." in module and is_module(module):
                fields["value"] = (self._mark(module), *attribute)
        return (
            type(node).__name__,
            *((name, self.plain(value)) for name, value in fields.items() if value is not None and value != []),
        )

    def _statements(self, nodes: list[Any]) -> tuple[Any, ...]:
        """Imports of ours first, by the names that they bind, for their lines are in the order of the paths."""
        imports, others = set[_Import](), list[Any]()
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                ours = [self._import(node, alias) for alias in node.names]
                imports |= {found for found in ours if found and not (found.name in self.named and not found.attribute)}
                rest = [alias for alias, found in zip(node.names, ours, strict=True) if found is None]
                others += [(type(node).__name__, getattr(node, "module", None), self.plain(rest))] if rest else []
            else:
                others += map(self.plain, node.orelse if _for_type_checkers(node) else [node])
        return (*((name, attribute, self._mark(module)) for name, attribute, module in sorted(imports)), *others)

    def _mark(self, module: str) -> tuple[str]:
        self.modules.append(module)
        return MARK

    def _reference(self, node: ast.AST) -> str | None:
        """The module of ours that an expression like `features` or `lrpilot.decisions.features` stands for."""
        if isinstance(node, ast.Name):
            return self.named.get(node.id)
        if isinstance(node, ast.Attribute) and (inner := self._reference(node.value)):
            return name if is_module(name := f"{inner}.{node.attr}") else None
        return None

    def _import(self, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> _Import | None:
        """What a statement imports under one name; None if it is not ours."""
        if isinstance(node, ast.Import):
            top = alias.name.partition(".")[0]
            found = _Import(alias.asname, "", alias.name) if alias.asname else _Import(top, "", top)
        else:
            origin = resolve_name("." * node.level + (node.module or ""), self.package)
            name = f"{origin}.{alias.name}"
            attribute, module = ("", name) if is_module(name) else (alias.name, origin)
            found = _Import(alias.asname or alias.name, attribute, module)
        return found if found.module.partition(".")[0] in PACKAGES else None

    def _bound(self, tree: ast.Module) -> Iterator[tuple[str, str]]:
        """Every name that is bound anywhere, and the module of ours that it stands for; "" for anything else."""
        todo: list[ast.AST] = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    found = self._import(node, alias)
                    name = alias.asname or alias.name.partition(".")[0]
                    yield name, found.module if found and not found.attribute else ""
                continue
            if isinstance(node, ast.Name):
                if not isinstance(node.ctx, ast.Load):
                    yield node.id, ""
                continue
            for field in BINDING.intersection(node._fields) if not isinstance(node, ast.keyword) else ():
                if isinstance(name := getattr(node, field), str):
                    yield name, ""
            todo += node.orelse if _for_type_checkers(node) else ast.iter_child_nodes(node)


def _for_type_checkers(node: ast.AST) -> TypeGuard[ast.If]:
    """Whether it is `if TYPE_CHECKING:` or `if typing.TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in (getattr(node.test, name, "") for name in ("id", "attr"))


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None
