"""A hash of the code that can change a result. It is part of the key under which the result is cached.

It covers the modules of this repository that a result's entry modules import, directly or indirectly, including imports
inside functions. The walk stops at `INERT` modules, which cannot change a number. Each module is hashed as a syntax
tree without docstrings and `SENTENCES`, so comments, formatting, prose and Python's version do not change the hash. A
package's own file counts only by its imports, because it contains little else.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[1]
PACKAGE = "__init__.py"
FOLDERS = {"lrpilot": "runtime", "policy": ".", "pipeline": ".", "benchmarks": ".", "experiments": "."}

# Modules, and packages with all that is in them, that change no number of what imports them.
INERT = {
    "lrpilot.announcer": "warnings, and a user's log of the decisions",
    "lrpilot.explain": "sentences about decisions",
    "lrpilot.history": "a log of the decisions, which no decision reads",
    "lrpilot.listing": "tables of that log",
    "lrpilot.plot": "pictures of that log",
    "lrpilot.style": "colours of pictures",
    "lrpilot.range_test": "suggests a rate to people",
    "lrpilot.registry": "finds the file of a policy, which counts by its content",
    "lrpilot.policy_cache": "keeps such files",
    "lrpilot.cli": "the command line",
    "benchmarks.command": "the command line of a benchmark",
    "pipeline.code_hash": "names results",
    "pipeline.config": "reads parameters, which count by their values",
    "pipeline.evaluation.run_cache": "caches results",
    "pipeline.evaluation.stats": "sums results up",
    "pipeline.engines": "runs work in processes, on one machine or more",
    "pipeline.paths": "where files lie",
    "pipeline.reporting": "pages and tables of results",
    "pipeline.schema": "checks parameters",
    "pipeline.tracking": "logs to MLflow",
    "pipeline.workloads.families": "a table of all families; the one at hand is an entry module of its result",
    "policy.allowed": "checks parameters",
    "policy.settings": "parameters, which count by their values",
}

# Calls with an argument that is a sentence for people, and its place.
SENTENCES = {"Feature": 2}


@dataclass(frozen=True)
class Source:
    """One module: the hash of its syntax tree, and the names that it imports, some of which may not be modules."""

    sha256: str
    imports: frozenset[str]


@cache
def digest(*modules: str, packages: tuple[str, ...] = (), unused: tuple[str, ...] = ()) -> str:
    """SHA-256 of the closure of `modules`, and of the installed versions of `packages`.

    `unused` are modules at which the closure stops, and packages with everything in them: imported, but never run for
    this result. Raises ModuleNotFoundError or PackageNotFoundError if one does not exist.
    """
    content = hashlib.sha256()
    for name in sorted(closure(*modules, unused=unused)):
        content.update(f"{name} {_source(_file(name), name).sha256}\n".encode())
    for package in sorted(packages):
        content.update(f"{package}=={metadata.version(package)}\n".encode())
    return content.hexdigest()


def closure(*modules: str, unused: Collection[str] = ()) -> set[str]:
    """Dotted names: `modules` and the modules of ours that they import, directly or not, except for inert and `unused`
    ones.
    """
    outside = (*INERT, *unused)
    names: set[str] = set()
    todo = set(modules)
    while todo:
        name = todo.pop()
        names.add(name)
        imports = {_module(imported) for imported in _source(_file(name), name).imports}
        todo |= {other for other in imports if other is not None and not _within(other, outside)} - names
    return {name for name in names if _file(name).name != PACKAGE}


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _module(name: str) -> str | None:
    """The module of ours that an import of `name` reaches: the name itself, or the module that it is an
    attribute of.
    """
    return next((module for module in (name, name.rpartition(".")[0]) if module and _path(module) is not None), None)


def _file(module: str) -> Path:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"{module} is no module of {', '.join(FOLDERS)}")
    return path


def _path(module: str) -> Path | None:
    """The file of a module; None if our packages have no such module."""
    package, *rest = module.split(".")
    if package not in FOLDERS:
        return None
    path = TOP.joinpath(FOLDERS[package], package, *rest)
    files = (path / PACKAGE, path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


@cache
def _source(path: Path, module: str) -> Source:
    tree = ast.parse(path.read_bytes())
    package = module if path.name == PACKAGE else module.rpartition(".")[0]
    return Source(hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(), frozenset(_imports(tree, package)))


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    """All names that are imported below `node`, except for imports that only type checkers see."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children: list[ast.stmt] | Iterator[ast.AST] = node.orelse
    else:
        children = ast.iter_child_nodes(node)
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        yield from (f"{origin}.{alias.name}" for alias in node.names)
    for child in children:
        yield from _imports(child, package)


def _plain(node: Any) -> Any:
    """A syntax tree as nested tuples, without prose and without empty fields, which Python's versions add."""
    if isinstance(node, list):
        return tuple(_plain(item) for item in node)
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _documented(node):
        fields["body"] = node.body[1:]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SENTENCES:
        place = SENTENCES[node.func.id]
        fields["args"] = node.args[:place] + node.args[place + 1 :]
    return (
        type(node).__name__,
        *((name, _plain(value)) for name, value in fields.items() if value is not None and value != []),
    )


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None
