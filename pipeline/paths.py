"""The path of every artefact of the pipeline. Only this module contains paths, and a test compares dvc.yaml with it.

A root is "." for the default profile and `profiles/<name>` for another one. Stages run from the repository's top.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload


@dataclass(frozen=True)
class Artefact:
    """One file or folder that a stage writes, relative to the root. Read from a `Paths`, it is a `Path`."""

    path: str
    stage: str
    kind: Literal["outs", "metrics", "plots"] = "outs"
    cached: bool = True  # in DVC's cache, hence ignored by git; False: committed

    @overload
    def __get__(self, paths: None, owner: type) -> "Artefact": ...
    @overload
    def __get__(self, paths: "Paths", owner: type) -> Path: ...
    def __get__(self, paths: "Paths | None", owner: type) -> "Artefact | Path":
        return self if paths is None else paths.root / self.path


@dataclass(frozen=True)
class Paths:
    """The paths below one root: `Paths(Path("profiles/a")).report` is `profiles/a/reports/latest.html`."""

    root: Path

    trajectories = Artefact("data/trajectories", "collect")  # <family>/<seed>-<spec hash>.parquet, rows: run, decision
    collect_metrics = Artefact("metrics/collect.json", "collect")  # has wall times, so never committed
    agent = Artefact("artifacts/agent", "train")
    train_metrics = Artefact("metrics/train.json", "train", cached=False)
    train_curve = Artefact("plots/train.csv", "train", "plots", cached=False)
    policy = Artefact("artifacts/policy.onnx", "export")
    blind_policy = Artefact("artifacts/blind.onnx", "export")  # the state-blind control
    export_metrics = Artefact("metrics/export.json", "export", cached=False)
    evaluation = Artefact("artifacts/evaluation.parquet", "evaluate")  # a row per training run of the evaluation
    evaluate_metrics = Artefact("metrics/evaluate.json", "evaluate", cached=False)
    headline = Artefact("metrics/headline.json", "evaluate", "metrics", cached=False)  # what `dvc metrics` shows
    regret_plot = Artefact("plots/regret.csv", "evaluate", "plots", cached=False)
    report = Artefact("reports/latest.html", "report")
    register_metrics = Artefact("metrics/register.json", "register", cached=False)

    @property
    def params(self) -> Path:
        """The parameters of this profile (input of every stage)."""
        return self.root / "params.yaml"


ARTEFACTS: tuple[Artefact, ...] = tuple(v for v in vars(Paths).values() if isinstance(v, Artefact))

# What names of agents below `Paths.agent` begin with, the policy's and those of its state-blind control. A training
# seed ends them.
AGENT, BLIND_AGENT = "seed", "blind"

# Trainings of the benchmark, by the hash of what decides them; no output of a stage, so that every profile finds them.
BENCHMARK_CACHE = Path(".benchmark_cache")

# Trained agents, likewise: the train stage and the experiments share them.
AGENT_CACHE = Path(".agent_cache")

# The promoted policy: tracked by git, written by `make promote` alone, part of the wheel.
DEFAULT_MODEL = Path("runtime/lrpilot/models/default")


def parse_root(description: str | None, argv: Sequence[str] | None = None) -> Paths:
    """Read `--root ROOT` from the command line of a stage; `description` is the stage's docstring."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--root", type=Path, default=Path("."), help="folder of the profile (default: .)")
    return Paths(parser.parse_args(argv).root)
