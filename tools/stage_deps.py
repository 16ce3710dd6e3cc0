"""Find the modules of this repository that a stage executes. `make deps` writes them into the files that define the
stages.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline import import_graph

TOP = Path(__file__).resolve().parents[1]
# A file with stages, and the package that they are modules of.
PIPELINES = {"dvc.yaml": "pipeline", "experiments/original/stages.yaml": "experiments.original"}


def closure(module: str) -> set[str]:
    """The files, relative to the top, that importing `module` may execute, except for empty ones."""
    files = map(import_graph.file, import_graph.closure([module], with_packages=True))
    return {str(path.resolve().relative_to(TOP)) for path in files if path.stat().st_size}


def update(pipeline: dict[str, Any], package: str) -> None:
    """Replace the .py files among the deps of every stage by the closure of its module, in place."""
    for name, stage in pipeline["stages"].items():
        others = [dep for dep in stage["deps"] if not dep.endswith(".py")]
        stage["deps"][:] = [*others, *sorted(closure(f"{package}.{name}"))]


def main() -> None:
    yaml = YAML()  # keeps comments
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 110
    for file, package in PIPELINES.items():
        pipeline = yaml.load(TOP / file)
        update(pipeline, package)
        yaml.dump(pipeline, TOP / file)


if __name__ == "__main__":
    main()
