"""The scheduler in a plain torch loop and the simulated training that a policy learns from decide alike."""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bundles import write_bundle
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import NAMES
from lrpilot.pilot import Pilot
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR
from pipeline.simulation.simulate import follow_policy, simulate
from pipeline.workloads.base import Data, Workload

SEED = 3
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": partial(torch.optim.AdamW, weight_decay=0.05),
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


def problem(optimizer: str, n_steps: int, scale: float, width: int = 16) -> Workload:
    """A small classification in float64, so that rounding has no time to grow; `scale` moves the blow-up."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((400, 6))
    y = torch.from_numpy((x @ rng.standard_normal((6, 3))).argmax(1))
    x = torch.from_numpy(scale * x).double()
    splits = [Data(x[i], y[i]) for i in (slice(0, 240), slice(240, 320), slice(320, 400))]
    return Workload(
        "twin", "twin", *splits,
        build=lambda: torch.nn.Sequential(
            torch.nn.Linear(6, width), torch.nn.Tanh(), torch.nn.Linear(width, 3)
        ).double(),
        loss=torch.nn.functional.cross_entropy, error=None, baseline_loss=1.1, optimizer=optimizer,
        batch_size=24, n_steps=n_steps, weight_decay=0.05 if optimizer == "adamw" else 0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class OnePass(Workload):
    """Whose batches (N, B) are known by seed."""

    orders: dict[int, np.ndarray] = field(default_factory=dict[int, np.ndarray])

    def batches(self, seed: int) -> np.ndarray:
        return self.orders[seed]


def plain_loop(
    workload: Workload, seed: int, policy: Bundle, probed: bool, show_validation: bool, guess: float | None = None
) -> tuple[np.ndarray, PilotLR]:
    """What a user writes; learning rates (N,) of the steps."""
    model = workload.initialise(seed)
    optimizer = OPTIMIZERS[workload.optimizer](model.parameters(), lr=0.123)
    scheduler = PilotLR(
        optimizer,
        workload.n_steps,
        policy,
        steps_per_epoch=workload.steps_per_epoch,
        probe=probed,
        examples=len(workload.train),
        guess=guess,
    )

    def validate() -> None:
        with torch.no_grad():
            scheduler.observe(val_loss=workload.loss(model(workload.val.x), workload.val.y))

    if show_validation:
        validate()
    rates, decisions = [], set(scheduler.pilot.cadence.bounds[1:].tolist())
    for step, batch in enumerate(workload.batches(seed), start=1):
        rates.append(optimizer.param_groups[0]["lr"])
        loss = workload.loss(model(workload.train.x[batch]), workload.train.y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if show_validation and step in decisions:
            validate()
        scheduler.step(loss)
    return np.array(rates), scheduler


# Where actions move the level, rounding adds up from decision to decision, and the training makes it grow.
CLOSE = {False: 1e-3, True: 1e-2}


@pytest.fixture(scope="module", params=CLOSE, ids=["named", "moved"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A policy that answers to every feature; where it moves the level it leads it back, and its rate falls early."""
    drawn = np.random.default_rng(1).normal(0, 0.03, len(NAMES))
    weights = dict(zip(NAMES, drawn.tolist(), strict=True))
    if request.param:
        weights |= {"level": -0.3, "level_to_anchor": -0.2, "last_move": -0.1}
    equation = ActionEquation(moves=request.param, rise=0.5, decay=1.0 if request.param else 0.5)
    path: Path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    return Bundle(write_bundle(path, weights=weights, action=equation))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("show_validation", [False, True], ids=["loss", "validation"])
@pytest.mark.parametrize(
    ("probed", "scale", "blown"),
    [(False, 1.0, False), (True, 1.0, None), (True, 12.0, True)],
    ids=["unprobed", "probed", "blown"],
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_plain_loop_equals_simulation(
    policy: Bundle, optimizer: str, probed: bool, scale: float, blown: bool | None, show_validation: bool
) -> None:
    workload = problem(optimizer, 400, scale)
    rates, scheduler = plain_loop(workload, SEED, policy, probed, show_validation)
    act = follow_policy(policy)
    alone = simulate(
        workload,
        [SEED],
        policy.protocol,
        act,
        probed=probed,
        val_examples=80,
        show_validation=show_validation,
    )
    assert alone.lr_curve is not None
    np.testing.assert_allclose(rates, alone.lr_curve[:, 0], rtol=CLOSE[policy.protocol.action.moves])
    assert [d.step for d in scheduler.history] == [int(s[0]) for s in alone.steps[:-1]]
    if blown:
        assert scheduler.pilot.probes.steps[0] < scheduler.pilot.cadence.probe_steps


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_both_take_a_guess(tmp_path: Path, optimizer: str) -> None:
    """In the simulation beside a run without one."""
    workload, holds = problem(optimizer, 400, 1.0), Bundle(write_bundle(tmp_path / "policy.onnx"))
    rate = 3 * float(plain_loop(workload, SEED, holds, True, False)[1].history[0].lr)
    rates, _ = plain_loop(workload, SEED, holds, True, False, guess=rate)
    both = simulate(
        workload, [SEED, SEED], holds.protocol, follow_policy(holds), val_examples=80, guess=np.array([np.nan, rate])
    )
    assert both.lr_curve is not None
    np.testing.assert_allclose(rates, both.lr_curve[:, 1], rtol=1e-4)
    assert both.lr_curve[100, 0] < 0.95 * both.lr_curve[100, 1]


def disturbed(whole: Workload, broken: set[int]) -> Workload:
    """One pass over data of which one is nan in the batches of these steps; three steps later with the next seed."""
    x, order = whole.train.x.repeat(40, 1), np.random.default_rng(0).permutation(400 * 24).reshape(400, 24)
    x[order[sorted(broken), 0]] = torch.nan
    train, orders = Data(x, whole.train.y.repeat(40)), {SEED: order, SEED + 1: np.roll(order, 3, axis=0)}
    return OnePass(**vars(whole) | {"train": train, "orders": orders})


@pytest.mark.parametrize("broken", [{2}, {0, 1, 6}, set(range(9))], ids=["once", "burst", "no evidence"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_survive_broken_losses(tmp_path: Path, optimizer: str, broken: set[int]) -> None:
    """Examples that are nan, in batches of the probe; in the simulation beside runs that meet them at other steps."""
    workload = disturbed(problem(optimizer, 400, 1.0), broken)
    holds = Bundle(write_bundle(tmp_path / "policy.onnx"))
    rates, scheduler = plain_loop(workload, SEED, holds, True, False)
    record = simulate(workload, [SEED + 1, SEED], holds.protocol, follow_policy(holds), val_examples=80)
    assert record.lr_curve is not None and record.probe is not None
    np.testing.assert_allclose(rates, record.lr_curve[:, 1], rtol=1e-4)
    probes, (loss, _, steps) = scheduler.pilot.probes, record.probe
    np.testing.assert_allclose(probes.loss[0], loss[1], rtol=1e-4)
    assert steps[1] == probes.steps[0] and record.alive[1]
    assert np.isnan(loss[1, sorted(broken)]).all() and (steps[1] == 0) == (len(broken) == 9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_undo_a_rise_that_ruins_them(tmp_path: Path, optimizer: str) -> None:
    """A policy that raises the level again and again, until data are nan; beside a run that meets them later."""
    weights = dict(zip(NAMES, np.random.default_rng(1).normal(0, 0.003, len(NAMES)).tolist(), strict=True))
    climbs = Bundle(write_bundle(tmp_path / "policy.onnx", weights=weights | {"first": -0.5}, bias=0.05))
    workload = disturbed(problem(optimizer, 400, 1.0), {150, 151})
    rates, scheduler = plain_loop(workload, SEED, climbs, True, False)
    events = [decision.event for decision in scheduler.history]
    assert "rise_undone" in events and not {"collapsed", "no_progress"} & set(events)
    act = follow_policy(climbs)
    record = simulate(workload, [SEED + 1, SEED], climbs.protocol, act, show_validation=False, test=True)
    assert record.lr_curve is not None and record.test_loss is not None
    np.testing.assert_allclose(rates, record.lr_curve[:, 1], rtol=1e-2)
    assert record.alive.all() and np.isfinite(record.test_loss).all()


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_both_begin_again_where_the_weights_are_lost(tmp_path: Path, optimizer: str) -> None:
    """A loss that falls less than it scatters, and is nan once the weights have gone some way; beside a lower level."""

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        place = outputs[:, 0].mean()
        return (y.double().mean() - 0.01 * torch.tanh(place / 100)) * torch.where(place > 3, torch.nan, 1.0)

    workload = replace(problem(optimizer, 400, 1.0), loss=loss)
    high = Bundle(write_bundle(tmp_path / "policy.onnx", weights={"first": 0.2}))  # half a decade above the anchor
    rates, scheduler = plain_loop(workload, SEED, high, True, False)
    events = [decision.event for decision in scheduler.history]
    assert events.count("collapsed") == 1 and "no_progress" not in events

    def act(pilot: Pilot, which: np.ndarray) -> None:
        others = np.array([-1.0, 0.0]) * (pilot.interval is None)
        pilot.decide(lambda observations: high(observations) + others, which)

    record = simulate(workload, [SEED, SEED], high.protocol, act, val_examples=80, test=True)
    assert record.lr_curve is not None and record.test_loss is not None
    np.testing.assert_allclose(rates, record.lr_curve[:, 1], rtol=1e-4)
    assert record.alive.all() and np.isfinite(record.test_loss).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_begin_again_where_nothing_is_learned(tmp_path: Path, optimizer: str) -> None:
    """A loss that falls less than it scatters, and whose gradient vanishes; beside other runs in the simulation.

    Of one of these the policy lowers the level itself, and one has another start. The others get their level back.
    """

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 3.0 - y.double().mean() - 0.01 * torch.tanh(30 * outputs[:, 0].mean())

    workload, holds = replace(problem(optimizer, 400, 1.0), loss=loss), Bundle(write_bundle(tmp_path / "policy.onnx"))
    rates, scheduler = plain_loop(workload, SEED, holds, True, False)
    assert [d.event for d in scheduler.history].count("no_progress") == 1

    def act(pilot: Pilot, which: np.ndarray) -> None:
        others = np.array([0.0, -0.5, 0.0]) * (pilot.decision == 1)
        pilot.decide(lambda observations: holds(observations) + others, which)

    record = simulate(workload, [SEED, SEED, SEED + 1], holds.protocol, act, val_examples=80, test=True)
    assert record.lr_curve is not None and record.test_loss is not None
    np.testing.assert_allclose(rates, record.lr_curve[:, 0], rtol=1e-4)
    first, lowered, _ = record.lr_curve[[200, 300]].T / record.lr_curve[99][:, None]
    assert first[0] < 0.11 and first[1] > 0.3 and lowered[0] > 0.6
    alone = simulate(workload, [SEED], holds.protocol, follow_policy(holds), val_examples=80, test=True)
    assert alone.test_loss is not None
    np.testing.assert_allclose(alone.test_loss, record.test_loss[:1], rtol=1e-6)
