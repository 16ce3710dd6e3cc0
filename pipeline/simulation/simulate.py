"""A training inside the decision process: a population driven by `lrpilot.Pilot`, exactly as a user's training is.

The caller decides what chooses the actions: a behaviour policy, a learned policy, or a rival's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lrpilot.decisions import telemetry
from lrpilot.decisions.protocol import Protocol
from lrpilot.pilot import Pilot
from pipeline.simulation.recorder import ProbeRecording, Recorder, Recording
from pipeline.simulation.twins import Twins
from pipeline.workloads.base import Workload
from pipeline.workloads.training.population import Population

Act = Callable[[Pilot, np.ndarray], None]  # (pilot, which runs (K,) bool): makes the pilot act on them


class Lineage(NamedTuple):
    """The run that each run descends from: they train as one until it departs."""

    base: np.ndarray  # (K,) int: the run that a run descends from; a base is its own
    departs_at: np.ndarray  # (K,) int: decision at which it departs; 0 or less: from the beginning


@np.errstate(over="ignore", invalid="ignore")  # of runs that diverge
def simulate(
    workload: Workload,
    seeds: Sequence[int],
    protocol: Protocol,
    act: Act,
    *,
    probed: bool = True,
    guards: bool = True,
    val_examples: int = 128,
    show_validation: bool | np.ndarray = True,
    show_epochs: bool | np.ndarray = True,
    guess: np.ndarray | None = None,
    milestones: Sequence[int] = (),
    test: bool = False,
    lineage: Lineage | None = None,
    device: str = "cpu",
) -> Recording:
    """Train one run per seed under `act`.

    `show_validation`, () or (K,): whether the pilot gets the validation loss of every decision. The loss is measured
    for all runs alike, unless `show_validation` is False, on as many examples as `Workload.scored` makes of
    `val_examples`, and at the end on all. With `milestones`, in completed steps, it is measured and given there
    instead. `show_epochs`, () or (K,): whether the pilot knows the length of an epoch and the number of examples.
    `guess` (K,) are first guesses of the rate, nan for none. `guards`: whether they check what the pilot decides. With
    `lineage`, runs train as one with their base until they depart from it; none of them may begin again.
    """
    n, k = workload.n_steps, len(seeds)
    shown = np.broadcast_to(show_validation, k)
    sizes = np.where(np.broadcast_to(show_epochs, k), [[workload.steps_per_epoch], [len(workload.train)]], np.nan)
    pilot = Pilot(
        protocol, n, workload.kind.driven_as, runs=k, probed=probed, guards=guards,
        steps_per_epoch=sizes[0], examples=sizes[1], guess=guess,
    )  # fmt: skip
    if lineage is None:
        population = Population(workload, seeds, device)
    else:
        departs_after = np.where(lineage.departs_at > 0, pilot.cadence.bounds[lineage.departs_at], 0)
        population = Twins(workload, seeds, lineage.base, departs_after, device)
    pilot.set_network_size(size := population.network_size())
    coordinates = torch.from_numpy(telemetry.sketch_coordinates(population.n_params)).to(device)
    whole = len(coordinates) == population.n_params
    sketch = telemetry.Sketch((population.n_params / len(coordinates)) ** 0.5)

    def sample(flat: torch.Tensor) -> Any:
        part = flat if whole else flat.index_select(1, coordinates)
        return part.numpy() if device == "cpu" else part  # numpy's operations start sooner

    recorder = Recorder(workload, population, val_examples, milestones, test=test)
    record = recorder.recording
    losses: list[Any] = []  # (K,) each, of the present interval
    guard_acts, restarts = np.zeros((2, k))
    first: dict[str, np.ndarray] = {name: np.full(k, np.nan) for name in ("steps", "levels", "rates")}

    def validate(at_end: bool) -> None:
        loss = recorder.validate(at_end=at_end)
        if not milestones:
            show(loss)

    def show(loss: np.ndarray) -> None:
        if shown.any():
            pilot.observe(np.where(shown, loss, np.nan))

    def note_first(which: np.ndarray) -> None:
        act(pilot, which)
        for name, value in (
            ("steps", pilot.step),
            ("levels", pilot.level),
            ("rates", pilot.learning_rates()),
        ):
            first[name] = np.where(which, value, first[name])

    def open_window() -> None:
        if pilot.window_opens:
            weights = population.state.weights
            sketch.open(sample(weights.clone() if whole else weights))  # they change in place

    validate(at_end=False)
    if pilot.cadence.probe_steps:
        saved = population.state.clone()
    else:
        note_first(np.ones(k, bool))
    open_window()
    for step in range(n):
        lr = recorder.lr_curve[step] = pilot.learning_rates()
        loss = population.train_step(step, lr)
        if pilot.in_probe:
            norm = torch.as_tensor(sketch.norm(sample(population.gradient)))
            loss, norm = _numbers([loss, population.spread(norm)])
            ended = pilot.advance_probe(loss, norm)
            if (back := ended | pilot.put_back).any():
                population.state.restore(saved, back[population.members])
            if ended.any():
                note_first(ended)
        else:
            if pilot.wants_loss:
                losses.append(loss)
            pilot.advance()
        if pilot.in_window:
            sketch.gradient(sample(population.gradient))
        if pilot.due:
            norms = sketch.close(sample(population.state.weights))
            values = population.spread(torch.from_numpy(_numbers(list(norms.values())))).numpy()
            fields = dict(zip(norms, values, strict=True))
            last = pilot.step == n
            if (show_validation is not False and not milestones) or last:  # recorded even where all hide it
                validate(at_end=last)
            interval = pilot.close_interval(_numbers(losses), fields)
            losses.clear()
            lost = ~np.isfinite(interval["loss_mean"])
            record.steps.append(np.full(k, pilot.step))
            if not last:
                act(pilot, np.ones(k, bool))
                guard_acts += [event is not None for event in pilot.events]
                restarts += pilot.restarts
                mine = population.members
                if pilot.restarts.any():
                    population.state.restore(saved.select(mine), pilot.restarts[mine])
                    lost &= ~pilot.restarts
                if pilot.rises[mine].any():
                    row = np.zeros(k, np.int64)  # of each member; of retired ones any
                    row[mine] = np.arange(len(mine))
                    saved.restore(population.state.select(row), pilot.rises)
            record.alive &= ~lost
            if (rows := population.retire(~record.alive)) is not None:
                sketch.displacement, sketch.distance = sketch.displacement[rows], sketch.distance[rows]
            record.telemetry.append(interval)
            record.levels.append(pilot.level.copy())
            record.rates.append(pilot.learning_rates())
        open_window()
        if recorder.is_milestone(pilot.step):
            show(recorder.pass_milestone())
    empty = {name: np.full(k, np.nan) for name in telemetry.INTERVAL} | {"val_loss": record.val_loss[0]}
    record.telemetry.insert(0, empty)
    for name, column in (("steps", record.steps), ("levels", record.levels), ("rates", record.rates)):
        column.insert(0, first[name])
    if pilot.cadence.probe_steps:
        record.probe = ProbeRecording(pilot.probes.loss, pilot.probes.grad_norm, pilot.probes.steps)
    record.anchor, record.size = pilot.anchor, size
    record.guard_acts, record.restarts = guard_acts, restarts
    return recorder.finish()


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """(n, K) float64 of n arrays or tensors (K,), in one transfer."""
    if isinstance(values[0], np.ndarray):
        return np.array(values, np.float64)
    return torch.stack([torch.as_tensor(v) for v in values]).double().cpu().numpy()


def hold_level(rule: Callable[[Pilot], np.ndarray]) -> Act:
    """A rival that chooses its level once, by `rule(pilot)` -> (K,) levels, and then follows the envelope."""

    def act(pilot: Pilot, which: np.ndarray) -> None:
        first = pilot.interval is None
        wanted = rule(pilot) if first else pilot.level
        pilot.act(pilot.protocol.action.invert(pilot.level, pilot.anchor, wanted, first), which)

    return act


def follow_policy(policy: Any) -> Act:
    """The learned policy, with guards as in a user's training."""
    return lambda pilot, which: pilot.decide(policy, which)
