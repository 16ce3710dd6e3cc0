"""params.yaml as frozen dataclasses, one per section, read strictly.

An unknown or missing key, a wrong type or an impossible value raises `ConfigError`, which names section.key, the value
and what is allowed. A new parameter is one annotated line here and one in params.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import Field

from pipeline.behaviours import HOLD, POLICY
from pipeline.paths import Paths, parse_root
from pipeline.schema import ConfigError, FileError, parse
from policy.allowed import Count, Device, Distinct, Name, Natural, OneOf, Positive, Several, Share
from policy.settings import Export, Reward, TrainConfig

T = TypeVar("T")
Recorded = Annotated[str, OneOf("pipeline.workloads.recorded.families:FAMILIES")]  # no other split
Family = Annotated[str, OneOf("pipeline.workloads.families:FAMILIES")]
Behaviour = Annotated[str, OneOf("pipeline.simulation.schedules:SCHEDULES", (POLICY, HOLD))]


@dataclass(frozen=True)
class RegimesConfig:
    """Shares of the regimes among the trainings that people run: of the recorded tasks, and weights of the figures."""

    ordinary: Share  # from scratch, enough data or regularised
    finetuning: Share
    small_noisy: Share  # few examples, many epochs, wrong labels
    odd: Share  # ill-conditioned, summed or scaled losses, bad initialisation

    def __post_init__(self) -> None:
        if abs(sum(self.shares.values()) - 1) > 1e-6:
            raise ConfigError("regimes", f"{self.shares}", "shares that add up to 1")

    @property
    def shares(self) -> dict[str, float]:
        """Share of each regime of `pipeline.workloads.base.REGIMES`."""
        return dict(vars(self))


@dataclass(frozen=True)
class BranchesConfig:
    """Tasks whose runs are groups of twins: runs with one start, from which all but the base depart once."""

    share: Share  # of the tasks
    levels: Natural  # groups whose twins differ in their first level
    moves: Natural  # groups whose twins move once, at a later decision
    twins: Several  # of a group, its base among them
    dear: Several  # the same of tasks whose trainings are dear: one group of levels
    base: Annotated[str, OneOf((HOLD, POLICY))]  # what bases do, and twins but for their departure
    rolled_in: Share  # of the tasks: bases that hold follow a behaviour policy first, up to a random decision

    def __post_init__(self) -> None:
        if self.share and not self.levels + self.moves:
            raise ConfigError("collect.branches", f"{vars(self)}", "at least one group, or share 0")
        if self.rolled_in and self.base == POLICY:
            raise ConfigError(
                "collect.branches.rolled_in", f"{self.rolled_in:g}", "0 where the base is a policy throughout"
            )

    def of_dear(self) -> Self:
        """Of tasks whose trainings are dear."""
        return replace(self, share=1.0, levels=1, moves=0, twins=self.dear, rolled_in=0.0)

    @property
    def runs(self) -> int:
        """Of a task with twins."""
        return (self.levels + self.moves) * self.twins


@dataclass(frozen=True)
class CollectConfig:
    """What is recorded: `tasks` workloads drawn from the families, and `extra` ones; `runs_per_task` runs of each."""

    seed: Natural
    families: Annotated[dict[Recorded, Positive], Field(min_length=1)]  # name -> weight of a draw; need not sum to 1
    tasks: Count
    extra: dict[Recorded, Count]  # name -> tasks of this family besides those; may be empty
    runs_per_task: Count
    no_probe_share: Share  # of the runs start without the range test
    schedules: Annotated[dict[Behaviour, Positive], Field(min_length=1)]  # likewise
    branches: BranchesConfig
    behaviour_policies: tuple[Name, ...]  # paths of the bundles of earlier rounds; may be empty
    epsilon: Share  # probability of a random action at the start of a run
    epsilon_decay: Share  # factor on epsilon per decision
    val_examples: Count  # validation examples, or symbols of sequences, that a run is scored on
    engine: Literal["local", "ray"]
    workers: Natural  # processes; 0: one per core
    time_limit: Positive  # seconds that a task may take
    device: Device

    def __post_init__(self) -> None:
        if POLICY in self.schedules and not self.behaviour_policies:
            raise ConfigError("collect.behaviour_policies", "[]", f"paths of policies, since schedules has {POLICY!r}")
        if self.branches.share and not self.behaviour_policies:
            raise ConfigError("collect.behaviour_policies", "[]", "paths of policies, which branches start from")


@dataclass(frozen=True)
class EvaluateConfig:
    """The tasks that the policy is evaluated on, and the initial learning rates of the baselines."""

    families: Distinct[Family]  # of any split; figures are summed up by split
    tasks_per_family: Count  # of those that do not say how many tasks they have
    seeds: Several  # runs of a task per method, each from its own initialisation
    tuning_seeds: Count  # other seeds, on which the oracle's grid is trained
    learning_rates: Distinct[Positive]
    bootstrap: Count  # resamples behind an interval
    workers: Natural  # processes; 0: one per core
    device: Device


@dataclass(frozen=True)
class RegisterConfig:
    """Where the policy is registered."""

    model: Name  # MLflow's registered model


@dataclass(frozen=True)
class Params:
    """All of params.yaml."""

    regimes: RegimesConfig
    collect: CollectConfig
    reward: Reward
    train: TrainConfig
    export: Export
    evaluate: EvaluateConfig
    register: RegisterConfig


def load(root: Path) -> Params:
    """Read and check ROOT/params.yaml. Raises `ConfigError`, which names the file, if it cannot be used."""
    return checked(Paths(root).params, Params)


def checked(path: Path, cls: type[T]) -> T:
    """The content of a YAML file as an instance of the dataclass `cls`. Raises `ConfigError`, which names the file."""
    content = read(path)
    try:
        return parse(content, cls)
    except ConfigError as error:
        raise FileError(path, error) from None


def read(path: Path) -> Any:
    """The plain content of a YAML file. Raises `ConfigError`, which names the file and the line that is not YAML."""
    try:
        return yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise FileError(path, "no such file") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise FileError(path, f"{where}: {error.problem}, want YAML as in params.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # bytes that are no text, characters that YAML forbids
        raise FileError(path, f"{' '.join(str(error).split())}, want YAML as in params.yaml") from None


def arguments(description: str | None) -> tuple[Paths, Params]:
    """The root from a stage's command line, and its parameters. `description` is the stage's docstring.

    If parameters cannot be used, raises SystemExit with one line, before the stage does anything.
    """
    paths = parse_root(description)
    try:
        return paths, load(paths.root)
    except ConfigError as error:
        raise SystemExit(f"lrpilot: {error}") from None


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with a profile's values in place of its own; both are {section: {key: value}}, not checked yet.

    A value is replaced as a whole, including mappings and lists.
    """
    return {**base, **{name: base.get(name, {}) | new if isinstance(new, dict) else new for name, new in over.items()}}
