"""What PilotLR costs: time per step over the same loop with CosineAnnealingLR or with no scheduler, time per decision,
of the probe, of the import, and memory.

    python -m benchmarks.overhead.measure            # 12 to 45 minutes; writes benchmarks/results/overhead.json,
                                                     # a table of README.md
    python -m benchmarks.overhead.measure --check    # and fails where a bar is missed

The figures are flat, those of a training as <training>.<figure>:

    over_cosine, over_none, cosine_over_none    ratios of step times, with _low and _high of their 95 % interval
    step_us, added_us                           step with CosineAnnealingLR; what PilotLR adds to it
    overhead_us, plain_step_us, cosine_us       the scheduler alone: mean step, median step, CosineAnnealingLR's step;
                                                with its code in the caches, as it is not in a training
    closing_us, closing_in_place_us             a decision along with the closing of the telemetry window before it
                                                (sampling the weights, norms): one after the other; one per interval
    probe_step_us, probe_copy_ms, probe_end_ms  of the probe: a step; the copy; landmarks, roll-back, first decision
    overhead_share                              (overhead_us - cosine_us) / step_us
    rounds, round_steps, total_steps, parameters

of a whole training, probe and all, <training>_<steps>: whole_over_cosine, with _low and _high where there were
several; and of no training: session_ms (to load the policy), start_ms (to make a PilotLR with it, and its first step),
import_ms, decision_us (from an interval's telemetry to the next rate: features, network, guard, history), policy_us
(the network alone), memory_bytes = memory_pilot_bytes (at most, in memory_steps steps;
memory_at_<share>_percent_bytes on the way) + memory_sketch_bytes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import command
from benchmarks.environment import THREADS, environment
from benchmarks.overhead.footprint import import_ms, memory
from benchmarks.overhead.own_time import decision_us, own_time, policy_us
from benchmarks.overhead.step_cases import cases
from benchmarks.overhead.steps import paired
from benchmarks.overhead.trainings import start_up, whole_trainings
from lrpilot import load_policy
from pipeline.reporting import markdown

OUT, README = Path("benchmarks/results/overhead.json"), Path("README.md")
BARS = {  # at most
    "mlp.over_cosine": 1.05,
    "transformer.over_cosine": 1.03,
    "resnet18.over_cosine": 1.01,
    "mlp_2000.whole_over_cosine": 1.10,
    "mlp_10000.whole_over_cosine": 1.05,
    "resnet18_200.whole_over_cosine": 1.01,
    "start_ms": 60.0,
    "decision_us": 150.0,
    "import_ms": 100.0,
    "memory_bytes": 1_000_000,
}


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)  # else a step's time depends on how far the training got
    policy = load_policy()
    results: dict[str, Any] = {"quick": quick, **environment()}
    results["import_ms"] = import_ms(1 if quick else 15)
    results |= start_up(1 if quick else 15)
    results["decision_us"], results["policy_us"] = decision_us(policy), policy_us(policy)
    for case in cases(quick):
        figures = {"total_steps": case.total_steps, "parameters": sum(p.numel() for p in case.model().parameters())}
        figures |= paired(case, policy) | own_time(case, policy, 1 if quick else 10)
        figures["overhead_share"] = (figures["overhead_us"] - figures["cosine_us"]) / figures["step_us"]
        results |= {f"{case.name}.{key}": value for key, value in figures.items()}
    results |= whole_trainings(quick, policy)
    return results | memory(policy, 2_000 if quick else 10_000_000)


def missed(results: Mapping[str, Any]) -> list[str]:
    """A message for every bar that is missed."""
    return [f"{key}: {results[key]:.4g}, want at most {bar:g}" for key, bar in BARS.items() if results[key] > bar]


def render(results: Mapping[str, Any]) -> str:
    """Markdown: a table of the trainings, and what does not depend on them."""
    names = {"mlp": "MLP 64-128-10", "transformer": "transformer of two layers", "resnet18": "ResNet-18, 32×32"}
    whole = {"mlp": ("mlp_2000", "2,000 steps"), "resnet18": ("resnet18_200", "200 steps")}
    head = ["training", "step", "PilotLR adds", "95 % interval", "to a whole training, probe included"]
    rows = []
    for key, name in names.items():
        r = {k.removeprefix(f"{key}."): v for k, v in results.items() if k.startswith(f"{key}.")}
        interval = f"{percent(r['over_cosine_low'])} to {percent(r['over_cosine_high'])}"
        training, length = whole.get(key, ("", ""))
        all_of_it = f"{percent(results[f'{training}.whole_over_cosine'])} ({length})" if training else "–"
        rows.append([name, duration(r["step_us"]), percent(r["over_cosine"]), interval, all_of_it])
    last = (
        f"A decision takes {results['decision_us']:.0f} µs; a training has about 40. Loading the policy takes "
        f"{results['session_ms']:.0f} ms, making a `PilotLR` {results['start_ms']:.0f} ms, `import lrpilot` "
        f"{results['import_ms']:.0f} ms beyond numpy and onnxruntime. The state of a training of "
        f"{results['memory_steps']:,} steps has {results['memory_bytes'] / 1e3:.0f} kB. Measured with torch "
        f"{results['torch']}, {results['threads']} thread, {results['processor']}."
    )
    return f"{markdown.table(head, rows)}\n\n{last}"


def percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "\N{MINUS SIGN}")


def duration(us: float) -> str:
    return f"{us:.0f} µs" if us < 1e3 else f"{us / 1e3:.1f} ms" if us < 1e5 else f"{us / 1e6:.2f} s"


def main(argv: Sequence[str] | None = None) -> int:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # torch's, of idle optimizers
        return command.run(argv, "What PilotLR costs a training.", OUT, README, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
