"""What the rates of `lrpilot.suggest` are worth, beside the usual rules of LR finders.

    python -m benchmarks.suggest_rates    # 5 minutes; writes benchmarks/results/suggest.json and docs/suggest.md

36 settings: four small networks (one with dropout, one with batch norm, one recurrent, one that regresses), three
optimizers, batches of 8, 32 and 128. In each, `suggest` is asked by five seeds, and cosine decay over 300 steps is
trained from rates a third of a decade apart. The loss of a rule's rate is read from that curve between two rates;
regret 0 is the best rate of the grid, 1 the loss before training. The rule was chosen on these settings, and on the 63
tasks of the benchmark's training split; none belongs to the held-out data.

For every rule: <rule>.regret (mean), .worst (setting), <rule>.<network> (mean), .spread (standard deviation of its rate
over the seeds, decades; mean over the settings), .widest (setting). Also settings, seeds, silent (suggestions of
nothing; they count as the textbook's rate), tests (mean number of range tests) and steps.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.small_training import NETWORKS, OPTIMIZERS, Setting, Training
from lrpilot.decisions.actions import reference
from lrpilot.probing.probe_curve import HIGH
from lrpilot.range_test.suggestion import Suggestion
from lrpilot.torch import suggest
from pipeline.engines import engine, progress, results
from pipeline.reporting import markdown

OUT, PAGE = Path("benchmarks/results/suggest.json"), Path("docs/suggest.md")
STEPS, SEEDS, TRAINED_SEEDS, BATCHES = 300, 5, 2, (8, 32, 128)
LEVELS = np.arange(-7, 7) / 3  # decades over the textbook's rate
RULES: dict[str, Callable[[Suggestion, float], float]] = {  # decades over the textbook's rate, of which log10 is given
    "lrpilot.suggest": lambda s, base: 0.0 if s.lr is None else math.log10(s.lr) - base,
    "a tenth of the blow-up": lambda s, base: (HIGH if s.blowup is None else math.log10(s.blowup) - base) - 1,
    "a tenth of the lowest loss": lambda s, base: math.log10(s.lowest) - base - 1,
    "steepest descent": lambda s, base: math.log10(s.steepest) - base,
    "textbook": lambda s, base: 0.0,
}


@dataclass(frozen=True)
class Outcome:
    suggestions: list[Suggestion]  # of every seed
    losses: np.ndarray  # (levels,) validation loss after training, at most that before
    start: float  # validation loss before


def outcome(setting: Setting, seeds: int = SEEDS, trained: int = TRAINED_SEEDS, steps: int = STEPS) -> Outcome:
    """All trainings of a setting."""
    suggestions = []
    for seed in range(seeds):
        training = Training(setting, seed)
        suggestions.append(suggest(training.optimizer, training.batches(), training.batch_loss, model=training.model))
    start = Training(setting, 0).validation_loss()
    rates = 10 ** (reference(setting.optimizer) + LEVELS)
    losses = np.array([[Training(setting, seed).run(float(lr), steps) for lr in rates] for seed in range(trained)])
    return Outcome(suggestions, np.fmin(losses, start).mean(axis=0), start)


def figures(outcomes: Mapping[Setting, Outcome]) -> dict[str, Any]:
    """All figures, flat."""
    out: dict[str, Any] = {}
    for name, rule in RULES.items():
        regrets, spreads = dict[Setting, float](), []
        for setting, each in outcomes.items():
            levels = [rule(suggestion, reference(setting.optimizer)) for suggestion in each.suggestions]
            best = each.losses.min()
            loss = np.interp(levels, LEVELS, each.losses)
            regrets[setting] = float(np.mean((loss - best) / (each.start - best)))
            spreads.append(float(np.std(levels)))
        values = list(regrets.values())
        out |= {
            f"{name}.regret": float(np.mean(values)), f"{name}.worst": max(values),
            f"{name}.spread": float(np.mean(spreads)), f"{name}.widest": max(spreads),
        }  # fmt: skip
        for network in dict.fromkeys(setting.network for setting in regrets):
            mine = [regret for setting, regret in regrets.items() if setting.network == network]
            out[f"{name}.{network}"] = float(np.mean(mine))
    suggestions = [suggestion for each in outcomes.values() for suggestion in each.suggestions]
    return out | {
        "settings": len(outcomes), "seeds": len(suggestions) // len(outcomes),
        "silent": sum(suggestion.lr is None for suggestion in suggestions),
        "tests": float(np.mean([suggestion.tests for suggestion in suggestions])), "steps": STEPS,
    }  # fmt: skip


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each rule."""
    networks = [name for name in NETWORKS if f"textbook.{name}" in r]
    head = ["rate", "mean regret", *networks, "worst setting", "spread over seeds", "widest"]
    rows = [
        [name, *(f"{r[f'{name}.{key}']:.3f}" for key in ("regret", *networks)), f"{r[f'{name}.worst']:.2f}",
         *(f"{r[f'{name}.{key}']:.2f}" for key in ("spread", "widest"))]
        for name in RULES
    ]  # fmt: skip
    last = (
        f"{r['settings']} settings, {r['seeds']} seeds. `suggest` said nothing {r['silent']} times, and made "
        f"{r['tests']:.2f} range tests on average. Spread: standard deviation, decades."
    )
    return f"{markdown.table(head, rows)}\n\n{last}"


def measure(quick: bool) -> dict[str, Any]:
    networks = ["regression"] if quick else NETWORKS
    batches = (32,) if quick else BATCHES
    todo = [Setting(network, name, batch) for network in networks for name in OPTIMIZERS for batch in batches]
    done = results(engine("local"), _quick if quick else _whole, todo)
    outcomes = dict(progress(done, len(todo), "suggest", lambda _: 1.0, "settings"))
    return figures({setting: outcomes[setting] for setting in todo})


def _whole(setting: Setting) -> tuple[Setting, Outcome]:
    return setting, outcome(setting)


def _quick(setting: Setting) -> tuple[Setting, Outcome]:
    return setting, outcome(setting, seeds=2, trained=1, steps=20)


def main(argv: Sequence[str] | None = None) -> int:
    what = "What the rates of lrpilot.suggest are worth."
    return command.run(argv, what, OUT, PAGE, measure, render, lambda _: [])


if __name__ == "__main__":
    sys.exit(main())
