"""`python -m pipeline.profile NAME`: write the parameters and the pipeline of a profile below profiles/NAME.

profiles/NAME/params.yaml is params.yaml overlaid by params/NAME.yaml; profiles/NAME/dvc.yaml is dvc.yaml with
its outs and its lock below profiles/NAME, and with the behaviour policies of the profile as what its collection
depends on: where another pipeline makes one, DVC runs that first. `make repro PROFILE=NAME` calls this, then DVC.
"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Params, overlay, read
from pipeline.schema import ConfigError, record


def write(name: str, top: Path = Path(".")) -> Path:
    """Write the profile's two files in the repository at `top`, return its folder.

    Raises `ConfigError` for a name without params/NAME.yaml and for parameters that cannot be used.
    """
    known = sorted(path.stem for path in (top / "params").glob("*.yaml"))
    if name not in known:
        raise ConfigError("PROFILE", repr(name), f"one of {', '.join(known)} (or none, for params.yaml alone)")
    default = read(top / "params.yaml")
    params = overlay(default, read(top / "params" / f"{name}.yaml"))
    record(params, Params)
    pipeline = rooted(read(top / "dvc.yaml"), f"profiles/{name}/")
    collect, usual = pipeline["stages"]["collect"], default["collect"]["behaviour_policies"]
    others = [dep for dep in collect["deps"] if dep not in usual]
    collect["deps"] = [*params["collect"]["behaviour_policies"], *others]
    folder = top / "profiles" / name
    folder.mkdir(parents=True, exist_ok=True)
    _dump(params, folder / "params.yaml")
    _dump(pipeline, folder / "dvc.yaml")
    return folder


def rooted(pipeline: dict[str, Any], root: str) -> dict[str, Any]:
    """The content of dvc.yaml with its outs below `root`, for a dvc.yaml that lies there, two levels down."""
    stages = {name: {**stage, "wdir": "../.."} for name, stage in pipeline["stages"].items()}
    return {**pipeline, "vars": [{"root": root}], "stages": stages}


def _dump(content: dict[str, Any], path: Path) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("name", metavar="NAME", help="stem of a file in params/")
    name = parser.parse_args().name
    try:
        write(name)
    except ConfigError as error:
        raise SystemExit(f"profile {name}: {error}") from None


if __name__ == "__main__":
    main()
