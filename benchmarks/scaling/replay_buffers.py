"""What drawing batches as arrays buys the training of an agent, against d3rlpy's own replay buffer.

    python -m benchmarks.scaling.replay_buffers            # 3 minutes; writes docs/scaling.md and
                                                           # benchmarks/results/replay_buffers.json
    python -m benchmarks.scaling.replay_buffers --check    # and fails where a bar is missed

Both buffers hold the same `runs` of `decisions` decisions with so many `features`, and pick with a
`MultiStepTransitionPicker`; algorithm, network, batch and look-ahead are those of params.yaml. All loops run in one
process on one thread, one after the other in an order shuffled anew in every round, and are timed in seconds of
processor time:

    ours.batches_per_s, d3rlpy.batches_per_s    batches drawn
    ours.steps_per_s, d3rlpy.steps_per_s        gradient steps of `fit`
    ours.start_s, d3rlpy.start_s                until the first step: the buffer, and the observations' scale

and from them, medians over `rounds` of paired ratios, each with _low and _high of its 95 % interval:

    batches_over_d3rlpy, steps_over_d3rlpy, start_over_d3rlpy    ours over d3rlpy's; of `start`, how much sooner
    batch_share                                                  of a step's time with our buffer: drawing its batch
    threads_over_one                                             steps per second on two threads over one, by the wall

Whether both draw alike, without our preference for first decisions: of `draws` transitions by each, the p-values that
all transitions are equally likely (chi-square), ours.uniform_p and d3rlpy.uniform_p; and the largest difference in any
column between the transitions that the two pick at every decision, pick_difference.

Of the machine: quick, load_average (of one minute, before anything ran), torch, numpy, onnxruntime, python, processor,
threads.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch

from benchmarks import command
from benchmarks.environment import THREADS, environment
from benchmarks.timing import clock, estimate
from lrpilot.features import NAMES
from pipeline.reporting import markdown
from policy import agents
from policy.buffer import MultiStepTransitionPicker, ReplayBuffer, Runs, TransitionMiniBatch, Transitions, d3rlpy
from policy.settings import Learning
from policy.store import DECISION, LAYOUT, RUN, Masks, Store, View

OUT, PAGE = Path("benchmarks/results/replay_buffers.json"), Path("docs/scaling.md")
BARS = {"steps_over_d3rlpy": 1.2}
LEARNING, N_STEP = Learning(4000, 512, 1e-3, 1.0, 8.0, (96, 96)), 44
KINDS = {"ours": "arrays of a store", "d3rlpy": "d3rlpy's own"}


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    runs: int
    decisions: int  # of a run
    rounds: int
    batches: int  # of a round
    steps: int  # of a round
    draws: int  # per decision


FULL = Effort(runs=400, decisions=43, rounds=15, batches=20, steps=40, draws=20)
QUICK = Effort(runs=6, decisions=5, rounds=2, batches=2, steps=2, draws=40)


def drawn(lengths: Sequence[int], seed: int) -> Store:
    """A store of random runs of `lengths` decisions, all of one task, for timing only."""
    rng, starts = np.random.default_rng(seed), np.append(0, np.cumsum(np.array(lengths) + 1))
    rows = int(starts[-1])
    decisions = rng.normal(size=(rows, len(DECISION))).astype(np.float32)
    constants = rng.normal(size=(len(lengths), len(RUN))).astype(np.float32)
    actions, rewards = (rng.uniform(-1, 1, rows).astype(np.float32) for _ in range(2))
    constants[:, -1] = 0
    for array in (decisions, actions, rewards):
        array[starts[1:] - 1] = 0
    return Store(decisions, actions, rewards, constants, starts, np.array([len(lengths)]))


def agent(data: View) -> Any:
    """An untrained agent for these observations."""
    return agents.configured("td3bc", LEARNING, data.moments()).create(device="cpu")


def theirs(data: View) -> ReplayBuffer:
    """d3rlpy's own buffer of the same episodes."""
    picker = MultiStepTransitionPicker(N_STEP, LEARNING.gamma)
    episodes = Runs(data, discrete=False).episodes
    return ReplayBuffer(d3rlpy.dataset.InfiniteBuffer(), transition_picker=picker, episodes=episodes)


def start(data: View, kind: str) -> ReplayBuffer:
    """Everything that a training waits for before its first step, except the network."""
    scaler = d3rlpy.preprocessing.StandardObservationScaler()
    if kind == "ours":
        scaler.mean, scaler.std = data.moments()
        return Transitions(data, N_STEP, LEARNING.gamma)
    buffer = theirs(data)
    scaler.fit_with_transition_picker(buffer.episodes, buffer.transition_picker)
    return buffer


def fit(algorithm: Any, buffer: ReplayBuffer, steps: int) -> None:
    """`steps` further gradient steps."""
    algorithm.fit(
        buffer, n_steps=steps, n_steps_per_epoch=steps, show_progress=False,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )  # fmt: skip


def compare(data: View, effort: Effort) -> dict[str, Any]:
    """The figures of both buffers."""
    buffers = {kind: start(data, kind) for kind in KINDS}
    algorithms = {kind: agent(data) for kind in (*KINDS, "two threads")}
    for algorithm in algorithms.values():
        fit(algorithm, buffers["ours"], 2)

    def draw(buffer: ReplayBuffer) -> None:
        for _ in range(effort.batches):
            buffer.sample_transition_batch(LEARNING.batch_size)

    loops: dict[tuple[str, str], Callable[[], object]] = {
        (kind, what): loop
        for kind in KINDS
        for what, loop in {
            "batches": lambda kind=kind: draw(buffers[kind]),
            "steps": lambda kind=kind: fit(algorithms[kind], buffers[kind], effort.steps),
            "start": lambda kind=kind: start(data, kind),
        }.items()
    }
    names, order = list(loops), np.random.default_rng(0)
    taken: dict[tuple[str, str], list[float]] = {name: [] for name in names}
    for _ in range(effort.rounds):
        for i in order.permutation(len(names)):
            gc.collect()
            taken[names[i]].append(clock(loops[names[i]]))
    once = {kind: {what: np.array(taken[kind, what]) for what in ("batches", "steps", "start")} for kind in KINDS}
    ours, d3rlpy = once["ours"], once["d3rlpy"]
    figures: dict[str, Any] = {"rounds": effort.rounds}
    for kind, seconds in once.items():
        figures |= {
            f"{kind}.batches_per_s": effort.batches / float(np.median(seconds["batches"])),
            f"{kind}.steps_per_s": effort.steps / float(np.median(seconds["steps"])),
            f"{kind}.start_s": float(np.median(seconds["start"])),
        }
    for what in ours:
        figures |= estimate(f"{what}_over_d3rlpy", d3rlpy[what] / ours[what])
    figures |= estimate("batch_share", ours["batches"] / effort.batches / (ours["steps"] / effort.steps))
    return figures | threads(algorithms["two threads"], buffers["ours"], effort, order)


def threads(algorithm: Any, buffer: ReplayBuffer, effort: Effort, order: np.random.Generator) -> dict[str, Any]:
    """Steps per second on two threads over one."""
    ratios = []
    for _ in range(effort.rounds):
        walls = {}
        for n in (order.permutation(2) + 1).tolist():
            torch.set_num_threads(n)
            gc.collect()
            walls[n] = clock(lambda: fit(algorithm, buffer, effort.steps), time.perf_counter)
        ratios.append(walls[1] / walls[2])
    torch.set_num_threads(THREADS)
    return estimate("threads_over_one", np.array(ratios))


def alike(data: View, effort: Effort) -> dict[str, Any]:
    """Whether both buffers draw the same transitions equally often."""
    rows, _ = data.rows_of(np.arange(len(data.variants)))
    # A decision's number in place of its first feature, so that a batch tells what was drawn.
    data.store.decisions[rows, LAYOUT.index((NAMES[0], 0))] = np.arange(len(rows))
    ours = Transitions(data, N_STEP, LEARNING.gamma, first_share=0)
    buffers = {"ours": ours, "d3rlpy": theirs(data)}
    figures: dict[str, Any] = {"draws": len(rows) * effort.draws}
    for kind, buffer in buffers.items():
        d3rlpy.seed(0)
        number = [buffer.sample_transition_batch(len(rows)).observations[:, 0] for _ in range(effort.draws)]
        counts = np.bincount(np.concatenate(number).astype(int), minlength=len(rows))
        figures[f"{kind}.uniform_p"] = float(scipy.stats.chisquare(counts).pvalue)
    return figures | {"pick_difference": pick_difference(ours)}


def pick_difference(buffer: Transitions) -> float:
    """The largest difference in any column between our picks and d3rlpy's, over all decisions."""
    count, picker = buffer.transition_count, buffer.transition_picker
    picked = [picker(*buffer.buffer[i]) for i in range(count)]
    wanted = TransitionMiniBatch.from_transitions(picked)
    ours = buffer.pick(np.arange(count))
    names = "observations actions rewards next_observations next_actions terminals intervals"
    return max(float(np.abs(getattr(ours, n) - getattr(wanted, n)).max()) for n in names.split())


def measure(quick: bool) -> dict[str, Any]:
    """All figures, flat."""
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)  # else a step's time depends on how far the training got
    effort = QUICK if quick else FULL
    head = {"quick": quick, "load_average": os.getloadavg()[0], **environment()}
    data = drawn([effort.decisions] * effort.runs, 0).masked(Masks(0.5, 0.5), 0)
    d3rlpy.seed(0)
    size = {"runs": effort.runs, "decisions": effort.decisions, "features": len(NAMES)}
    return head | size | compare(data, effort) | alike(data, effort)


def missed(results: Mapping[str, Any]) -> list[str]:
    """A message for every bar that is missed."""
    return [f"{k}: {results[k]:.3g}, want at least {bar:g}" for k, bar in BARS.items() if results[k] < bar]


def render(results: Mapping[str, Any]) -> str:
    """Markdown: a row of each buffer, a row of ratios, and where it was measured."""
    head = ["replay buffer", "batches/s", "gradient steps/s", "until the first step"]
    rows = []
    for kind, name in KINDS.items():
        r = {k.removeprefix(f"{kind}."): v for k, v in results.items() if k.startswith(f"{kind}.")}
        rows.append([name, f"{r['batches_per_s']:,.0f}", f"{r['steps_per_s']:,.0f}", f"{r['start_s']:.2g} s"])
    r, decisions = results, results["runs"] * results["decisions"]
    ratios = [interval(r, f"{what}_over_d3rlpy", "3g") for what in ("batches", "steps", "start")]
    rows.append(["ratio, 95 % interval", *ratios])
    last = (
        f"{decisions:,} decisions, batches of {LEARNING.batch_size}, {r['features']} features. Drawing the batch is "
        f"{100 * r['batch_share']:.0f} % of a step. Two threads take {interval(r, 'threads_over_one', '2f')} times as "
        f"many steps per second as one (load average {r['load_average']:.1f} before the benchmark). Both buffers pick "
        f"the same transitions (largest difference {r['pick_difference']:.1g}) and, but for our preference for first "
        f"decisions, equally often (chi-square over {r['draws']:,} draws of each: p = {r['ours.uniform_p']:.2f} and "
        f"{r['d3rlpy.uniform_p']:.2f}). Measured with torch {r['torch']}, {r['threads']} thread, {r['processor']}."
    )
    return f"{markdown.table(head, rows)}\n\n{last}"


def interval(results: Mapping[str, Any], key: str, form: str) -> str:
    """A figure with its interval; `form` is what follows the point in a format specification."""
    value, low, high = (f"{results[key + end]:.{form}}" for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(argv, "What drawing batches as arrays buys.", OUT, PAGE, measure, render, missed)


if __name__ == "__main__":
    sys.exit(main())
