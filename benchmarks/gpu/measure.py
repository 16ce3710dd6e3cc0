"""The pilot on a GPU: five trainings beside warm-up and cosine at the textbook's rate, and the benchmark's large tasks.

    python -m benchmarks.gpu.measure            # writes docs/gpu.md, and of benchmarks/results gpu.json and
                                                # gpu_large.json; without a GPU it says so and ends
    python -m benchmarks.gpu.measure --quick    # a toy of each training, on the CPU if need be; figures mean nothing

Figures in gpu.json are flat, those of a training as <training>.<figure>:

    pilot_losses, textbook_losses    validation losses at the end, one per seed
    pilot_rates, textbook_rate       the pilot's first rate, one per seed; the highest of the schedule
    events, alarms                   guard events by name over all seeds; how many say that something went wrong
    step_ms, added_us                a step under the schedule; what PilotLR adds to it; after the probe
    over_textbook                    ratio of step times after the probe, with _low and _high of its 95 % interval
    whole_over_textbook              ratio of the times of all steps, probe included
    parameters, n_steps, batch_size, optimizer

and of no training: quick, seeds, device, versions and processor. gpu_large.json: see `large_tasks.py`, and device.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import command
from benchmarks.environment import THREADS, environment, processor
from benchmarks.gpu import large_tasks
from benchmarks.gpu.pairs import METHODS, compare
from benchmarks.gpu.trainings import FULL, TOY, TRAININGS
from lrpilot.text import counted
from pipeline.reporting import markdown

RESULTS, PAGE = Path("benchmarks/results"), Path("docs/gpu.md")
TRAINED, LARGE = "gpu.json", "gpu_large.json"
SEEDS = 3


def measure(quick: bool, device: str) -> dict[str, Any]:
    """The figures of the five trainings."""
    torch.set_num_threads(THREADS)
    sizes, seeds = (TOY, 1) if quick else (FULL, SEEDS)
    results: dict[str, Any] = {"quick": quick, "seeds": seeds, "device": name_of(device), **environment()}
    for name, training in TRAININGS.items():
        figures = compare(training(sizes), seeds, device)
        results |= {f"{name}.{key}": value for key, value in figures.items()}
        print(f"{name}: done", file=sys.stderr, flush=True)
    return results


def name_of(device: str) -> str:
    """What the device is called by its maker."""
    return torch.cuda.get_device_name() if device == "cuda" else processor()


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a table of losses, one of times, and where they were measured."""
    losses, times = [], []
    for name in TRAININGS:
        of = {key.removeprefix(f"{name}."): value for key, value in r.items() if key.startswith(f"{name}.")}
        rate = float(np.exp(np.mean(np.log(of["pilot_rates"]))))
        losses.append([
            name, f"{of['parameters'] / 1e6:.1f}", of["optimizer"], *(spread(of[f"{m}_losses"]) for m in METHODS),
            f"{rate:.2g}", f"{of['textbook_rate']:g}", f"{of['alarms']} ({of['events'] or 'none'})",
        ])  # fmt: skip
        low, high = (percent(of[f"over_textbook_{end}"]) for end in ("low", "high"))
        times.append([
            name, f"{of['n_steps']:,} × {of['batch_size']}", f"{of['step_ms']:.1f} ms", percent(of["over_textbook"]),
            f"{low} to {high}", signed(of["added_us"], 0, "µs"), percent(of["whole_over_textbook"]),
        ])  # fmt: skip
    head = [
        "training", "million weights", "optimizer", "loss, pilot", "loss, schedule", "pilot's first rate",
        "schedule's rate", "alarms (guard events)",
    ]  # fmt: skip
    costs = ["training", "steps × batch", "step", "PilotLR adds", "95 %", "in time", "to all steps, probe included"]
    seeds = counted(str(r["seeds"]), "seed")
    last = f"Over {seeds}. Measured on {r['device']} with torch {r['torch']}, {r['processor']}."
    return "\n\n".join([markdown.table(head, losses, "lrlrrrrl"), markdown.table(costs, times), last])


def spread(losses: Sequence[float]) -> str:
    """Mean, lowest and highest."""
    return f"{np.mean(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})"


def percent(ratio: float) -> str:
    return signed(100 * (ratio - 1), 1, "%")


def signed(value: float, digits: int, unit: str) -> str:
    return f"{value:+.{digits}f} {unit}".replace("-", "\N{MINUS SIGN}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The pilot on a GPU.")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"folder of the figures (default: {RESULTS})")
    parser.add_argument("--quick", action="store_true", help="a few steps of small networks, without a GPU, too")
    args = parser.parse_args(argv)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not args.quick:
        print(f"No CUDA device here: nothing was measured, {PAGE} stays as it is.")
        return 0
    page = PAGE if args.out == RESULTS else None
    results = measure(args.quick, device)
    command.write(results, render(results), args.out / TRAINED, page)  # before the longer part begins
    results = {"device": name_of(device)} | large_tasks.measure(args.quick, device)
    command.write(results, large_tasks.render(results), args.out / LARGE, page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
