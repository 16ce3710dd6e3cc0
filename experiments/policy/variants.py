"""The questions of the experiments, and the variants of a policy that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.policy.variant import DISTILLED, DIVERGED, MEAN, WORSE, Variant
from lrpilot.decisions.features import GROUPS


@dataclass(frozen=True)
class Experiment:
    """A question, and the variants that answer it. The others are compared with the first one."""

    question: str
    variants: Mapping[str, Variant]


RUNS = {  # what agents were made by that learned from all that runs did
    "learns_from": "runs", "algorithm": "td3bc", "steps": 8000, "batch_size": 512, "n_step": 8, "alpha": 2.5,
    "hidden": (96, 96), "dropout": 0.0,
}  # fmt: skip


def of_runs(train: Mapping[str, Any] | None = None, **more: Any) -> Variant:
    """A variant whose agents learn from whole runs."""
    return Variant(RUNS | dict(train or {}), **more)


def of_twins(train: Mapping[str, Any] | None = None, **more: Any) -> Variant:
    """Of agents that learn from departures, three as one policy: only several critics show how sure they are."""
    return Variant(train or {}, agents=MEAN, **more)


PLAIN = of_runs()
QUARTER = 0.25  # of the recorded tasks, where they are recorded anew
FULL = {"n_step": 44, "alpha": 8.0}  # as many steps as there are decisions: full returns, nothing bootstrapped
OPEN = ("clock", "epochs", "probe")  # nothing of what a policy itself does to a training

EXPERIMENTS = {
    "probe": Experiment(
        "Is a probe that is rolled back worth its steps?",
        {
            "probe": PLAIN,
            "none": of_runs(unprobed=True),
            "its blow-up alone": of_runs({"features": tuple(f for f in GROUPS if f != "probe")}),
            "probe, then hold the first level": of_runs(later=0.0),
            "finder: steepest descent": Variant(rule="finder_steepest"),
            "finder: a tenth of the blow-up": Variant(rule="finder_tenth"),
        },
    ),
    "length": Experiment(
        "How long should the probe be?",
        {
            "5 % of the steps, 16 to 240": of_runs(share=QUARTER),
            "2 %, 8 to 96": of_runs(share=QUARTER, cadence={"probe_fraction": 0.02, "probe_min": 8, "probe_max": 96}),
            "10 %, 32 to 480": of_runs(
                share=QUARTER, cadence={"probe_fraction": 0.1, "probe_min": 32, "probe_max": 480}
            ),
        },
    ),
    "cadence": Experiment(
        "How often should it decide?",
        {  # critics take over after the same share of a run
            "44 times": of_runs(share=QUARTER),
            "30": of_runs({"n_step": 5}, share=QUARTER, cadence={"early": 8, "late": 21}),
            "60": of_runs({"n_step": 11}, share=QUARTER, cadence={"early": 15, "late": 44}),
            "120": of_runs({"n_step": 22}, share=QUARTER, cadence={"early": 30, "late": 89}),
        },
    ),
    "algorithm": Experiment(
        "Which of d3rlpy's algorithms?",
        {
            "TD3+BC, full returns, α 8": of_runs(FULL),
            "TD3+BC, α 2.5": of_runs(FULL | {"alpha": 2.5}),
            "TD3+BC, α 20": of_runs(FULL | {"alpha": 20.0}),
            "TD3+BC, 1-step": of_runs({"n_step": 1, "alpha": 8.0}),
            "TD3+BC, 8-step": of_runs({"n_step": 8, "alpha": 8.0}),
            "IQL": of_runs(FULL | {"algorithm": "iql"}),
            # 14 times as slow
            "CQL, α 1, 2,000 steps": of_runs(FULL | {"algorithm": "cql", "alpha": 1.0, "steps": 2000}),
            "discrete CQL, α 0.1": of_runs(FULL | {"algorithm": "discretecql", "alpha": 0.1}),
            "BC": of_runs(FULL | {"algorithm": "bc"}),
        },
    ),
    "horizon": Experiment(
        "How much of a return should be left to the critics, and with what against overfitting?",
        {
            "full returns": of_runs(FULL),
            "4-step": of_runs({"n_step": 4, "alpha": 8.0}),
            "8-step": of_runs({"n_step": 8, "alpha": 8.0}),
            "16-step": of_runs({"n_step": 16, "alpha": 8.0}),
            "2-step, α 2.5": of_runs({"n_step": 2, "alpha": 2.5}),
            "4-step, α 2.5": of_runs({"n_step": 4, "alpha": 2.5}),
            "4-step, α 1": of_runs({"n_step": 4, "alpha": 1.0}),
            "8-step, α 2.5": of_runs({"n_step": 8, "alpha": 2.5}),
            "8-step, dropout 0.2": of_runs({"n_step": 8, "dropout": 0.2, "alpha": 8.0}),
            "8-step, dropout 0.2, α 2.5": of_runs({"n_step": 8, "dropout": 0.2, "alpha": 2.5}),
        },
    ),
    "imitation": Experiment(
        "Is it enough to imitate the better runs?",
        {
            "TD3+BC": PLAIN,
            "IQL": of_runs({"algorithm": "iql"}),
            "AWAC, λ 1": of_runs({"algorithm": "awac", "alpha": 1.0}),
            "BC": of_runs({"algorithm": "bc"}),
            "BC, of the best quarter of each task's runs": of_runs({"algorithm": "bc"}, without=WORSE),
        },
    ),
    "action": Experiment(
        "Should a later action move the level, or name it, and how far?",
        {
            "move": PLAIN,
            "name": of_runs(action={"moves": False}),
            "move half as far": of_runs(later=0.5),
            "hold what the first names": of_runs(later=0.0),
        },
    ),
    "reward": Experiment(
        "What should a decision be paid for?",
        {
            "regret, nearly linear": PLAIN,
            "regret, knee 0.3": of_runs(reward={"regret_weight": 1.0, "knee": 0.3}),
            "log regret": of_runs(reward={"regret_weight": 1.0, "knee": 0.03}),
            "log loss": of_runs(reward={"loss_weight": 1.0, "regret_weight": 0.0}),
            "log loss and log regret": of_runs(reward={"loss_weight": 0.7, "regret_weight": 0.5, "knee": 0.03}),
        },
    ),
    "features": Experiment(
        "Which groups of features does it need?",
        {
            "all": PLAIN,
            "clock": of_runs({"features": ("clock",)}),
            "clock, epochs, probe": of_runs({"features": OPEN}),
            "and validation loss": of_runs({"features": (*OPEN, "validation")}),
            "and losses": of_runs({"features": (*OPEN, "loss")}),
            "and losses, gradients, updates": of_runs({"features": (*OPEN, "loss", "sketch")}),
            "and level": of_runs({"features": (*OPEN, "level")}),
            "and level, validation loss": of_runs({"features": (*OPEN, "level", "validation")}),
            "and level, losses": of_runs({"features": (*OPEN, "level", "loss")}),
            "and level, gradients, updates": of_runs({"features": (*OPEN, "level", "sketch")}),
        },
    ),
    "masks": Experiment(
        "How often should training hide what the default call does not tell?",
        {
            "validation half, data a third": PLAIN,
            "always": of_runs({"mask_validation": 1.0, "mask_epochs": 1.0}),
            "four of five": of_runs({"mask_validation": 0.8, "mask_epochs": 0.8}),
        },
    ),
    "data": Experiment(
        "How many recorded tasks, from how many families, with which runs?",
        {
            "all": PLAIN,
            "half of the tasks": of_runs(share=0.5),
            "a quarter": of_runs(share=0.25),
            "a tenth": of_runs(share=0.1),
            "half of the families": of_runs(families=10),
            "without runs that diverged": of_runs(without=DIVERGED),
            "without runs that follow a policy": of_runs(without="policy"),
            "levels shifted by 0.5 decades": of_runs(rescaled=0.5),
        },
    ),
    "network": Experiment(
        "How large a network, trained for how long?",
        {
            "2 × 96, 8,000 steps": PLAIN,
            "2 × 32": of_runs({"hidden": (32, 32)}),
            "2 × 256": of_runs({"hidden": (256, 256)}),
            "3 × 96": of_runs({"hidden": (96, 96, 96)}),
            "4,000 steps": of_runs({"steps": 4000}),
            "16,000 steps": of_runs({"steps": 16000}),
        },
    ),
    "agents": Experiment(
        "One agent, several, or one that imitates several?",
        {"one": PLAIN, "mean of three": of_runs(agents=MEAN), "their mean, distilled": of_runs(agents=DISTILLED)},
    ),
    "departures": Experiment(
        "Which of d3rlpy's algorithms learns what a departure is worth?",
        {
            "DQN": Variant(),
            "discrete CQL, α 0.1": Variant({"algorithm": "discretecql", "alpha": 0.1}),
            "TD3+BC, α 2.5": Variant({"algorithm": "td3bc", "alpha": 2.5}),
            "IQL": Variant({"algorithm": "iql"}),
            "BC": Variant({"algorithm": "bc"}),
            "the first level, held": Variant(later=0.0),
        },
    ),
    "caution": Experiment(
        "How sure must a move be?",
        {
            "two deviations, 0.03": of_twins(caution={"later": 2.0, "margin": 0.03}),
            "none, 0.03": of_twins(caution={"later": 0.0, "margin": 0.03}),
            "one, 0.03": of_twins(caution={"later": 1.0, "margin": 0.03}),
            "three, 0.03": of_twins(caution={"later": 3.0, "margin": 0.03}),
            "two, 0.01": of_twins(caution={"later": 2.0, "margin": 0.01}),
            "two, 0.1": of_twins(caution={"later": 2.0, "margin": 0.1}),
            "two, 0.03, and half of a first level": of_twins(caution={"first": 0.5, "later": 2.0, "margin": 0.03}),
            "two, 0.1, and half of a first level": of_twins(caution={"first": 0.5, "later": 2.0, "margin": 0.1}),
        },
    ),
    "twins": Experiment(
        "How many tasks of twins?",
        {"all": of_twins(), "a third": of_twins(share=1 / 3), "an eighth": of_twins(share=1 / 8)},
    ),
}
