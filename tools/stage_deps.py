"""Find the modules of this repository that a stage executes. `make deps` writes them into the files that define the
stages.
"""

from pathlib import Path
from typing import Any

import grimp
from ruamel.yaml import YAML

TOP = Path(__file__).parents[1]
# A file with stages, and the package that they are modules of.
PIPELINES = {"dvc.yaml": "pipeline", "experiments/original/stages.yaml": "experiments.original"}
PACKAGES = ("experiments", "pipeline", "policy", "lrpilot")
FOLDERS = {"lrpilot": TOP / "runtime/lrpilot"}  # of a package that does not lie at the top


def import_graph() -> grimp.ImportGraph:
    """The imports among our packages, including imports inside functions."""
    return grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)


def closure(module: str, graph: grimp.ImportGraph) -> set[str]:
    """The files, relative to the top, that importing `module` may execute, except for empty ones."""
    modules: set[str] = set()
    todo = {module}
    while todo:
        name = todo.pop()
        if name and name not in modules:
            modules.add(name)
            todo |= {name.rpartition(".")[0], *graph.find_modules_directly_imported_by(name)}
    files = map(_file, modules)
    return {str(path.relative_to(TOP)) for path in files if path.stat().st_size}


def _file(module: str) -> Path:
    package, *rest = module.split(".")
    path = FOLDERS.get(package, TOP / package).joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def update(pipeline: dict[str, Any], package: str, graph: grimp.ImportGraph) -> None:
    """Replace the .py files among the deps of every stage by the closure of its module, in place."""
    for name, stage in pipeline["stages"].items():
        others = [dep for dep in stage["deps"] if not dep.endswith(".py")]
        stage["deps"][:] = [*others, *sorted(closure(f"{package}.{name}", graph))]


def main() -> None:
    yaml = YAML()  # keeps comments
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 110
    graph = import_graph()
    for file, package in PIPELINES.items():
        pipeline = yaml.load(TOP / file)
        update(pipeline, package, graph)
        yaml.dump(pipeline, TOP / file)


if __name__ == "__main__":
    main()
