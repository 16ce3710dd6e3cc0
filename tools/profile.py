"""`python -m tools.profile NAME`: write the parameters and the pipeline of a profile to profiles/NAME.

profiles/NAME/params.yaml is params.yaml overlaid by params/NAME.yaml. profiles/NAME/dvc.yaml is dvc.yaml with its outs
and its lock below profiles/NAME. The profile's behaviour policies are dependencies of its collection, and its policy
for small networks is one of its export. If another pipeline makes one, DVC runs that pipeline first. `make repro
PROFILE=NAME` calls this, then DVC.

`--track` makes the profile visible to git, by a .gitignore of its own, because `dvc exp run` works only on committed
files.

A profile may name another `pipeline`, a file with stages, and the dataclass of its `parameters`, all of which it then
defines. A profile with a `base` overlays that profile.
"""

from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.config import Params, checked, overlay, read
from pipeline.schema import ConfigError, FileError, parse


class Pipeline(NamedTuple):
    """What a profile runs."""

    stages: str  # a file
    parameters: str  # "module:dataclass"


DEFAULT = Pipeline("dvc.yaml", "pipeline.config:Params")


def write(name: str, top: Path = Path(".")) -> Path:
    """Write the profile's two files in the repository at `top`, and return its folder.

    Raises `ConfigError` for a name without params/NAME.yaml and for parameters that cannot be used.
    """
    source, params = content(name, top, "PROFILE")
    pipeline = rooted(read(top / source.stages), f"profiles/{name}/")
    if source == DEFAULT:
        collect, usual = pipeline["stages"]["collect"], read(top / "params.yaml")["collect"]["behaviour_policies"]
        others = [dep for dep in collect["deps"] if dep not in usual]
        collect["deps"] = [*params["collect"]["behaviour_policies"], *others]
        if (small := params["export"]["small"]) is not None:
            pipeline["stages"]["export"]["deps"].insert(0, small)
    folder = top / "profiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    _dump(params, folder / "params.yaml")
    _dump(pipeline, folder / "dvc.yaml")
    return folder


def track(folder: Path, top: Path = Path(".")) -> None:
    """Let git see a profile, except for what it also ignores of the default one: data, caches, MLflow's store."""
    text = (top / ".gitignore").read_text(encoding="utf-8")
    (folder / ".gitignore").write_text(f"# by tools/profile.py --track\n!*\n\n{text}", encoding="utf-8")


def content(name: str, top: Path, where: str, over: tuple[str, ...] = ()) -> tuple[Pipeline, dict[str, Any]]:
    """The pipeline and the parameters of the profile that `where` names, including those that it does not change
    itself.
    """
    known = sorted(path.stem for path in (top / "params").glob("*.yaml"))
    if name not in known:
        raise ConfigError(where, repr(name), f"one of {', '.join(known)} (or none, for params.yaml alone)")
    if name in over:
        raise ConfigError(where, repr(name), "a profile that does not overlay itself")
    path = Path("params") / f"{name}.yaml"
    values = read(top / path)
    if not isinstance(values, dict):
        raise FileError(path, f"holds {values!r}, want a mapping of sections to values")
    stages, parameters = values.pop("pipeline", DEFAULT.stages), values.pop("parameters", DEFAULT.parameters)
    pipeline, base = Pipeline(stages, parameters), values.pop("base", None)
    files = [DEFAULT.stages, *sorted(str(path.relative_to(top)) for path in top.glob("experiments/*/stages.yaml"))]
    if stages not in files:
        raise ConfigError("pipeline", repr(stages), f"one of {', '.join(files)}")
    if base is not None:
        pipeline, params = content(base, top, "base", (*over, name))
    elif pipeline == DEFAULT:
        checked(top / "params.yaml", Params)  # or its faults would be the profile's
        params = read(top / "params.yaml")
    else:
        params = {}
    params = overlay(params, values)
    try:
        parse(params, _dataclass(pipeline.parameters))
    except ConfigError as error:
        raise FileError(path, error) from None
    return pipeline, params


def _dataclass(name: str) -> type:
    try:
        module, _, attribute = name.partition(":")
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError("parameters", repr(name), "module:dataclass, as params/plan.yaml has it") from None


def rooted(pipeline: dict[str, Any], root: str) -> dict[str, Any]:
    """The content of dvc.yaml with its outs below `root`, for a dvc.yaml in that folder, two levels down."""
    stages = {name: {**stage, "wdir": "../.."} for name, stage in pipeline["stages"].items()}
    return {**pipeline, "vars": [{"root": root}], "stages": stages}


def _dump(content: dict[str, Any], path: Path) -> None:
    """Write the file as a whole or not at all: a DVC of any profile reads all of them."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    partial.replace(path)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME", help="stem of a file in params/")
    parser.add_argument("--track", action="store_true", help="let git see the profile, for `dvc exp run`")
    arguments = parser.parse_args()
    name = arguments.name
    try:
        folder = write(name)
    except ConfigError as error:
        raise SystemExit(f"profile {name}: {error}") from None
    if arguments.track:
        track(folder)


if __name__ == "__main__":
    main()
