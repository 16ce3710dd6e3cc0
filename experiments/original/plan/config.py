"""The parameters of the original experiment as frozen dataclasses, read as strictly as in `pipeline/config.py`.

`params/plan.yaml` has the plan's values and explains each. Other profiles of it replace single values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from experiments.original.plan.catalogue import MODELS, SCHEDULERS, SETS
from experiments.original.plan.paths import OriginalPaths
from pipeline.config import checked
from pipeline.schema import ConfigError
from policy.algorithms import ALGORITHMS
from policy.allowed import (
    AnyDevice,
    Count,
    Distinct,
    Dropout,
    Name,
    Natural,
    NonNegative,
    OneOf,
    Positive,
    PositiveShare,
    Several,
    Share,
    Text,
)
from policy.settings import Learning

Set = Annotated[str, OneOf(SETS)]
Model = Annotated[str, OneOf(MODELS)]
EMBEDDED = "embedded"  # a value of data.mirror


@dataclass(frozen=True)
class DataConfig:
    """The source of the data, and how much of them is used."""

    mirror: Text  # "": the hub; "embedded": what ships in packages; else a folder laid out as the hub is
    validation: Annotated[float, Field(strict=True, ge=0.01, le=0.5)]  # share of the training split that is held out
    examples: Natural  # of a split that are used at most; 0: all
    max_tokens: Annotated[
        dict[Set, Annotated[int, Field(strict=True, ge=8, le=512)]], Field(min_length=1)
    ]  # texts are cut there


@dataclass(frozen=True)
class EmbeddedConfig:
    """Size of the mirror that `data.mirror: embedded` writes; used for nothing else."""

    train: Count  # examples of a split at most
    test: Count
    vocabulary: Annotated[int, Field(strict=True, ge=64)]  # of the tokenizer
    hidden: Annotated[int, Field(strict=True, ge=4)]  # width of the small BERT
    layers: Count
    pretraining: Natural  # steps of masked language modelling


@dataclass(frozen=True)
class ModelsConfig:
    """The four models."""

    width: PositiveShare  # share of the channels of ResNet-18 and VGG-16
    lstm_embedding: Count
    lstm_hidden: Count
    dropout: Dropout  # before the last layer
    pretrained: Text  # folder with BERT and its tokenizer; "": those of the mirror or of the hub


@dataclass(frozen=True)
class Setting:
    """The hyperparameters of a model. A model may have several settings."""

    learning_rate: Positive  # the plan's own
    batch_size: Count
    epochs: Count


@dataclass(frozen=True)
class TrainingConfig:
    """Parameters of every training."""

    settings: Annotated[dict[Model, Distinct[Setting]], Field(min_length=1)]
    beta1: Share
    beta2: Share
    epsilon: Positive
    weight_decay: NonNegative
    clip_norm: NonNegative  # 0: gradients are not clipped
    amp: Literal["none", "bf16", "fp16"]
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"]  # modes of torch.compile
    loader_workers: Natural  # processes per training that fetch batches; 0: the training's own
    engine: Literal["local", "ray"]
    workers: Natural  # trainings at once; 0: one per core, or per GPU
    device: AnyDevice


@dataclass(frozen=True)
class PlanConfig:
    """The cells: every pair of data set and model, under every scheduler, from every initial rate, for every seed."""

    pairs: Annotated[dict[Set, Distinct[Model]], Field(min_length=1)]
    schedulers: Distinct[Annotated[str, OneOf(SCHEDULERS)]]
    learning_rates: Distinct[Positive]  # initial ones
    seeds: Several
    decisions_per_epoch: Count  # of the plan's agents
    thresholds: dict[Set, Share]  # validation accuracy for "epochs to threshold"


@dataclass(frozen=True)
class RecordConfig:
    """The trainings that the plan's agents learn from."""

    runs: Several  # per pair and kind of action
    behaviours: Distinct[Name]  # schedules that they follow as closely as actions allow
    epsilon: Share  # chance of a random action at the first decision
    epsilon_decay: Share  # its factor per decision


@dataclass(frozen=True)
class AgentsConfig(Learning):
    """The offline training of the plan's agents."""

    discrete: Annotated[str, OneOf([name for name, algorithm in ALGORITHMS.items() if algorithm.discrete])]
    continuous: Annotated[str, OneOf([name for name, algorithm in ALGORITHMS.items() if not algorithm.discrete])]
    seed: Natural


@dataclass(frozen=True)
class Original:
    """All parameters of the experiment."""

    data: DataConfig
    embedded: EmbeddedConfig
    models: ModelsConfig
    training: TrainingConfig
    plan: PlanConfig
    record: RecordConfig
    agents: AgentsConfig

    def __post_init__(self) -> None:
        for name, models in self.plan.pairs.items():
            where = f"plan.pairs.{name}"
            for model in models:
                if MODELS[model] != SETS[name].kind:
                    raise ConfigError(where, repr(model), f"a model for {SETS[name].kind}s")
                if model not in self.training.settings:
                    raise ConfigError(f"training.settings.{model}", "missing", f"settings, since {where} has the model")
            if name not in self.plan.thresholds:
                raise ConfigError(f"plan.thresholds.{name}", "missing", f"an accuracy, since {where} is there")
            if SETS[name].kind == "text" and name not in self.data.max_tokens:
                raise ConfigError(f"data.max_tokens.{name}", "missing", f"a number of tokens, since {where} is there")


def load(root: Path) -> Original:
    """Read and check ROOT/params.yaml. Raises `ConfigError`, which names the file, if it cannot be used."""
    return checked(OriginalPaths(root).params, Original)
