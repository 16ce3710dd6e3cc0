"""The questions of the experiments, and the variants of a policy that answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.policy.variant import DISTILLED, DIVERGED, MEAN, WORSE, Variant
from pipeline.config import FEATURES


@dataclass(frozen=True)
class Experiment:
    """A question, and the variants that answer it; the first is what the others are compared with."""

    question: str
    variants: Mapping[str, Variant]


PLAIN = Variant()
QUARTER = 0.25  # of the recorded tasks, where they are recorded anew
FULL = {"n_step": 44, "alpha": 8.0}  # as many steps as there are decisions: full returns, nothing bootstrapped
OPEN = ("clock", "epochs", "probe")  # nothing of what a policy itself does to a training

EXPERIMENTS = {
    "probe": Experiment(
        "Is a probe that is rolled back worth its steps?",
        {
            "probe": PLAIN,
            "none": Variant(unprobed=True),
            "its blow-up alone": Variant({"features": tuple(f for f in FEATURES if f != "probe")}),
            "probe, then hold the first level": Variant(later=0.0),
            "finder: steepest descent": Variant(rule="finder_steepest"),
            "finder: a tenth of the blow-up": Variant(rule="finder_tenth"),
        },
    ),
    "length": Experiment(
        "How long should the probe be?",
        {
            "5 % of the steps, 16 to 240": Variant(share=QUARTER),
            "2 %, 8 to 96": Variant(share=QUARTER, cadence={"probe_fraction": 0.02, "probe_min": 8, "probe_max": 96}),
            "10 %, 32 to 480": Variant(
                share=QUARTER, cadence={"probe_fraction": 0.1, "probe_min": 32, "probe_max": 480}
            ),
        },
    ),
    "cadence": Experiment(
        "How often should it decide?",
        {  # critics take over after the same share of a run
            "44 times": Variant(share=QUARTER),
            "30": Variant({"n_step": 5}, share=QUARTER, cadence={"early": 8, "late": 21}),
            "60": Variant({"n_step": 11}, share=QUARTER, cadence={"early": 15, "late": 44}),
            "120": Variant({"n_step": 22}, share=QUARTER, cadence={"early": 30, "late": 89}),
        },
    ),
    "algorithm": Experiment(
        "Which of d3rlpy's algorithms?",
        {
            "TD3+BC, full returns, α 8": Variant(FULL),
            "TD3+BC, α 2.5": Variant(FULL | {"alpha": 2.5}),
            "TD3+BC, α 20": Variant(FULL | {"alpha": 20.0}),
            "TD3+BC, 1-step": Variant({"n_step": 1, "alpha": 8.0}),
            "TD3+BC, 8-step": Variant({"n_step": 8, "alpha": 8.0}),
            "IQL": Variant(FULL | {"algorithm": "iql"}),
            # 14 times as slow
            "CQL, α 1, 2,000 steps": Variant(FULL | {"algorithm": "cql", "alpha": 1.0, "steps": 2000}),
            "discrete CQL, α 0.1": Variant(FULL | {"algorithm": "discretecql", "alpha": 0.1}),
            "BC": Variant(FULL | {"algorithm": "bc"}),
        },
    ),
    "horizon": Experiment(
        "How much of a return should be left to the critics, and with what against overfitting?",
        {
            "full returns": Variant(FULL),
            "4-step": Variant({"n_step": 4, "alpha": 8.0}),
            "8-step": Variant({"n_step": 8, "alpha": 8.0}),
            "16-step": Variant({"n_step": 16, "alpha": 8.0}),
            "2-step, α 2.5": Variant({"n_step": 2, "alpha": 2.5}),
            "4-step, α 2.5": Variant({"n_step": 4, "alpha": 2.5}),
            "4-step, α 1": Variant({"n_step": 4, "alpha": 1.0}),
            "8-step, α 2.5": Variant({"n_step": 8, "alpha": 2.5}),
            "8-step, dropout 0.2": Variant({"n_step": 8, "dropout": 0.2, "alpha": 8.0}),
            "8-step, dropout 0.2, α 2.5": Variant({"n_step": 8, "dropout": 0.2, "alpha": 2.5}),
        },
    ),
    "imitation": Experiment(
        "Is it enough to imitate the better runs?",
        {
            "TD3+BC": PLAIN,
            "IQL": Variant({"algorithm": "iql"}),
            "AWAC, λ 1": Variant({"algorithm": "awac", "alpha": 1.0}),
            "BC": Variant({"algorithm": "bc"}),
            "BC, of the best quarter of each task's runs": Variant({"algorithm": "bc"}, without=WORSE),
        },
    ),
    "action": Experiment(
        "Should a later action move the level, or name it, and how far?",
        {
            "move": PLAIN,
            "name": Variant(action={"moves": False}),
            "move half as far": Variant(later=0.5),
            "hold what the first names": Variant(later=0.0),
        },
    ),
    "reward": Experiment(
        "What should a decision be paid for?",
        {
            "regret, nearly linear": PLAIN,
            "regret, knee 0.3": Variant(reward={"regret_weight": 1.0, "knee": 0.3}),
            "log regret": Variant(reward={"regret_weight": 1.0, "knee": 0.03}),
            "log loss": Variant(reward={"loss_weight": 1.0, "regret_weight": 0.0}),
            "log loss and log regret": Variant(reward={"loss_weight": 0.7, "regret_weight": 0.5, "knee": 0.03}),
        },
    ),
    "features": Experiment(
        "Which groups of features does it need?",
        {
            "all": PLAIN,
            "clock": Variant({"features": ("clock",)}),
            "clock, epochs, probe": Variant({"features": OPEN}),
            "and validation loss": Variant({"features": (*OPEN, "validation")}),
            "and losses": Variant({"features": (*OPEN, "loss")}),
            "and losses, gradients, updates": Variant({"features": (*OPEN, "loss", "sketch")}),
            "and level": Variant({"features": (*OPEN, "level")}),
            "and level, validation loss": Variant({"features": (*OPEN, "level", "validation")}),
            "and level, losses": Variant({"features": (*OPEN, "level", "loss")}),
            "and level, gradients, updates": Variant({"features": (*OPEN, "level", "sketch")}),
        },
    ),
    "masks": Experiment(
        "How often should training hide what the default call does not tell?",
        {
            "validation half, data a third": PLAIN,
            "always": Variant({"mask_validation": 1.0, "mask_epochs": 1.0}),
            "four of five": Variant({"mask_validation": 0.8, "mask_epochs": 0.8}),
        },
    ),
    "data": Experiment(
        "How many recorded tasks, from how many families, with which runs?",
        {
            "all": PLAIN,
            "half of the tasks": Variant(share=0.5),
            "a quarter": Variant(share=0.25),
            "a tenth": Variant(share=0.1),
            "half of the families": Variant(families=10),
            "without runs that diverged": Variant(without=DIVERGED),
            "without runs that follow a policy": Variant(without="policy"),
            "levels shifted by 0.5 decades": Variant(rescaled=0.5),
        },
    ),
    "network": Experiment(
        "How large a network, trained for how long?",
        {
            "2 × 96, 8,000 steps": PLAIN,
            "2 × 32": Variant({"hidden": (32, 32)}),
            "2 × 256": Variant({"hidden": (256, 256)}),
            "3 × 96": Variant({"hidden": (96, 96, 96)}),
            "4,000 steps": Variant({"steps": 4000}),
            "16,000 steps": Variant({"steps": 16000}),
        },
    ),
    "agents": Experiment(
        "One agent, several, or one that imitates several?",
        {"one": PLAIN, "mean of three": Variant(agents=MEAN), "their mean, distilled": Variant(agents=DISTILLED)},
    ),
}
