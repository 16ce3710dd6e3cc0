"""The trainings that the plan asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from experiments.original.plan.catalogue import AGENTS, PILOTS
from experiments.original.plan.config import Original, Setting
from experiments.original.plan.paths import OriginalPaths
from experiments.original.sources import sets
from experiments.original.trainings.training import Training, sha256
from pipeline.schema import ConfigError
from policy.allowed import device


def pairs(params: Original, paths: OriginalPaths) -> Iterator[Training]:
    """Every data set with each of its models and each setting of the model, as a training at its fixed rate.

    Raises `ConfigError` for fp16 without a GPU, which not every model supports on a CPU.
    """
    about, where = sets.read(paths.sets), device(params.training.device)
    if (where, params.training.amp) == ("cpu", "fp16"):
        raise ConfigError("training.amp", "'fp16'", "none or bf16 on a CPU")
    weights = sha256(paths.sets / "bert") if (paths.sets / "bert").is_dir() else ""
    for name, models in params.plan.pairs.items():
        for model in models:
            for setting in params.training.settings[model]:
                yield Training(
                    about[name], model, setting, "fixed", setting.learning_rate, 0, params.plan.decisions_per_epoch,
                    params.models, params.training, where, str(paths.sets.resolve()),
                    weights if model == "bert" else "",
                )  # fmt: skip


def rates(params: Original, setting: Setting) -> list[float]:
    """The initial rates of the plan, and the setting's own."""
    return sorted({*params.plan.learning_rates, setting.learning_rate})


def cells(params: Original, paths: OriginalPaths) -> list[Training]:
    """All trainings of the table. A pilot has no initial rate and runs once per seed; the others run from every
    rate.
    """
    agents = {kind: getattr(paths, kind) for kind in AGENTS}
    shas = {kind: sha256(path) for kind, path in agents.items() if path.is_file()}
    trainings = []
    for pair in pairs(params, paths):
        for scheduler in params.plan.schedulers:
            policy = str(agents[scheduler].resolve()) if scheduler in AGENTS else ""
            own = [pair.setting.learning_rate] if scheduler in PILOTS else rates(params, pair.setting)
            trainings += [
                replace(
                    pair, scheduler=scheduler, learning_rate=rate, seed=seed, policy=policy,
                    policy_sha256=shas.get(scheduler, ""),
                )
                for rate in own for seed in range(params.plan.seeds)
            ]  # fmt: skip
    return trainings


def steps(training: Training) -> int:
    """Optimizer steps of a training."""
    return training.about.rows["train"] // training.setting.batch_size * training.setting.epochs


def paths_of(folder: Path, name: str) -> tuple[Path, Path]:
    """The paths of a training's result and of its checkpoint."""
    return folder / f"{name}.json", folder / f"{name}.pt"
