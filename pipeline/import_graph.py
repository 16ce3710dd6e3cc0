"""Which of our modules import which, read by grimp without running them, and the files that they lie in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import grimp

PACKAGES = (
    "lrpilot",
    "policy",
    "pipeline",
    "benchmarks",
    "experiments",
)  # ours; a copy for workers has not all of them


@cache
def graph() -> grimp.ImportGraph:
    """The imports among our packages, including imports inside functions, without those that only type checkers see."""
    here = [package for package in PACKAGES if _folder(package)]
    return grimp.build_graph(*here, exclude_type_checking_imports=True, cache_dir=None)


def closure(modules: Iterable[str], outside: Collection[str] = (), with_packages: bool = False) -> set[str]:
    """Dotted names: `modules`, and what they import, directly or not. The walk does not enter what is `outside`.

    With `with_packages`, also the packages that a module lies in, because an import of it runs their files, too. Raises
    ModuleNotFoundError for a module that is not ours.
    """
    names: set[str] = set()
    todo = set(modules)
    while todo:
        name = todo.pop()
        file(name)
        names.add(name)
        imports = graph().find_modules_directly_imported_by(name)
        if with_packages and "." in name:
            imports.add(name.rpartition(".")[0])
        todo |= {other for other in imports - names if not within(other, outside)}
    return names


def within(module: str, names: Iterable[str]) -> bool:
    """Whether a module is among `names`, or in a package that is."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def is_module(name: str) -> bool:
    """Whether a dotted name is that of a module or package of ours."""
    return name in graph().modules


def is_package(module: str) -> bool:
    """Whether a module of ours is a package."""
    return file(module).name == "__init__.py"


def file(module: str) -> Path:
    """The file of a module, or the `__init__.py` of a package. Raises ModuleNotFoundError if we have none."""
    package, *rest = module.split(".")
    folder = _folder(package) if is_module(module) else None
    if folder is None:
        raise ModuleNotFoundError(f"{module} is no module of {', '.join(PACKAGES)}")
    path = folder.joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _folder(package: str) -> Path | None:
    """Where Python imports a package of ours from; None if it is not there."""
    spec = find_spec(package) if package in PACKAGES else None
    found = spec.submodule_search_locations if spec is not None and spec.has_location else None
    return Path(found[0]) if found else None
