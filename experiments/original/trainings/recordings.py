"""The trainings that the plan's agents learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.original.plan.catalogue import AGENTS
from experiments.original.plan.config import Original
from experiments.original.plan.paths import OriginalPaths
from experiments.original.trainings.cells import pairs, rates
from experiments.original.trainings.training import Training

FIRST_SEED = 10_000  # agents are judged on others


def recorded(params: Original, paths: OriginalPaths) -> list[Training]:
    """The trainings to record. Every behaviour and every initial rate occurs as evenly as `record.runs` allow."""
    config, trainings = params.record, []
    for pair in pairs(params, paths):
        for kind in AGENTS:
            rng, own = np.random.default_rng([len(trainings), 7]), rates(params, pair.setting)
            behaviours = [config.behaviours[i % len(config.behaviours)] for i in range(config.runs)]
            order = [own[i] for _ in range(-(-config.runs // len(own))) for i in rng.permutation(len(own))]
            trainings += [
                replace(
                    pair, scheduler=kind, learning_rate=order[i], seed=FIRST_SEED + len(trainings) + i,
                    behaviour=behaviour, exploration=(config.epsilon, config.epsilon_decay),
                )
                for i, behaviour in enumerate(behaviours)
            ]  # fmt: skip
    return trainings
