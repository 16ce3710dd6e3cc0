"""Every kind of method trains as it says, on one tiny real task."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import FALLING, write_bundle
from lrpilot.decisions.actions import ActionEquation
from lrpilot.pilot import Pilot
from pipeline.evaluation.methods.loops import Rival, UserScheduler
from pipeline.evaluation.methods.method import MILESTONES, Method, milestones
from pipeline.evaluation.methods.pilot_loop import PilotLoop
from pipeline.evaluation.methods.policies import ABLATIONS, FINDERS, RULES, Learned, Ruled
from pipeline.evaluation.methods.schedules import KnownRates, Replayed, Scheduled
from pipeline.evaluation.rivals import RIVALS, nadamw_settings
from pipeline.evaluation.runs import CURVE_POINTS, Run, execute
from pipeline.evaluation.splits import Task
from pipeline.simulation.schedules import multipliers
from pipeline.workloads.base import Workload
from tiny import world


@dataclass(frozen=True)
class Tiny(Task):
    """A world that trains in milliseconds, and that no family changes."""

    def sample(self) -> Workload:
        return world("adam", 400)


TASK = Tiny("train", "illconditioned", 0)
COSINE = Scheduled("baseline", "cosine", schedule="cosine", lr0=1e-2)
CONSTANT = Scheduled("baseline", "constant", schedule="constant", lr0=1e-3)
MEAN = Replayed("control", "mean_lr", (-3.0,) * 5)
FINDER = Ruled("rival", "finder_tenth", "finder_tenth")
PRODIGY = Rival("rival", "prodigy", "prodigy")
LDOG = Rival("rival", "ldog", "ldog")
NADAMW = Rival("rival", "nadamw", "nadamw")
OWN = UserScheduler("rival", "mine", "torch.optim.lr_scheduler:CosineAnnealingLR")
PILOT = PilotLoop("loop", "pilot", "default")
LEARNED = Learned("policy", "policy", "default", epochs=True)
HOLD = replace(LEARNED, name="hold", ablation="hold")


def trained(*methods: Method, seeds: Sequence[int] = (0, 1)) -> list[dict[str, Any]]:
    return execute([Run(TASK, method, seed) for method in methods for seed in seeds])


@pytest.mark.parametrize(
    ("method", "rates"),
    [
        (COSINE, 1e-2 * multipliers("cosine", 40)),
        (Replayed("control", "mean_lr", (-1.0, -3.0)), 10.0 ** -(1 + (np.arange(40) + 0.5) / 20)),
    ],
)
def test_rates_that_are_known_beforehand(method: KnownRates, rates: np.ndarray) -> None:
    np.testing.assert_allclose(method.rates(40), rates)


@pytest.mark.parametrize("n", [20, 61, 300, 4999])
def test_milestones_end_with_the_training(n: int) -> None:
    points = milestones(n)
    assert points[-1] == n and points == sorted(set(points)) and len(points) == MILESTONES


def test_schedules_have_an_initial_rate_and_nothing_else_has() -> None:
    others = (MEAN, FINDER, PRODIGY, NADAMW, OWN, PILOT, LEARNED, HOLD)
    assert replace(NADAMW, lr0=0.5).initial_rate == 0.5
    assert COSINE.initial_rate == 1e-2
    assert [method.initial_rate for method in others] == [None] * len(others)


@pytest.mark.parametrize(
    ("method", "other", "together"),
    [
        (COSINE, MEAN, True), (COSINE, FINDER, False), (COSINE, PRODIGY, False),
        (FINDER, replace(FINDER, rule="finder_steepest"), True), (FINDER, replace(FINDER, rule="random_init"), False),
        (FINDER, LEARNED, False),
        (LEARNED, replace(LEARNED, validation=True, epochs=False), True),
        (LEARNED, replace(LEARNED, unprobed=True), False), (LEARNED, HOLD, True),
        (PRODIGY, Rival("rival", "greedy", "greedy"), True), (PRODIGY, LDOG, False),
        (PRODIGY, OWN, False), (PRODIGY, PILOT, False),
    ],
)  # fmt: skip
def test_which_methods_train_together(method: Method, other: Method, together: bool) -> None:
    assert (method.together() == other.together()) is together
    assert (Run(TASK, method, 0).together() == Run(TASK, other, 1).together()) is together


@pytest.mark.parametrize("method", [COSINE, MEAN, FINDER, PRODIGY, LDOG, OWN, PILOT, LEARNED, HOLD])
def test_what_looks_at_tensors_trains_alone(method: Method) -> None:
    """And workers, which get methods pickled, have the same ones."""
    alone = Run(TASK, method, 0).together() != Run(TASK, method, 1).together()
    assert alone == method.alone == (isinstance(method, UserScheduler | PilotLoop) or method is LDOG)
    again = pickle.loads(pickle.dumps(method))
    assert again == method and hash(again) == hash(method) and again.content() == method.content()


def test_a_rival_names_its_packages_and_nothing_else_has_any() -> None:
    named = {name: Rival("rival", name, name).packages() for name in RIVALS}
    assert named == {
        "untouched": (), "plateau": (), "greedy": ("transformers",), "nadamw": (), "schedule_free": ("schedulefree",),
        "schedule_free_high": ("schedulefree",), "prodigy": ("prodigyopt",), "prodigy_cosine": ("prodigyopt",),
        "d_adaptation": ("dadaptation",), "d_adaptation_cosine": ("dadaptation",),
        "mechanic_cosine": ("mechanic-pytorch",), "momo": ("momo-opt",), "dog": ("dog-optimizer",),
        "ldog": ("dog-optimizer",),
    }  # fmt: skip
    assert {method.packages() for method in (COSINE, MEAN, FINDER, OWN, PILOT, LEARNED, HOLD)} == {()}


def test_a_calibrated_rival_is_known_by_its_rate() -> None:
    """Whether that is the frozen one or given."""
    frozen = nadamw_settings()
    assert NADAMW.content() | frozen == NADAMW.content() == replace(NADAMW, lr0=frozen["lr0"]).content()
    assert replace(NADAMW, lr0=2 * frozen["lr0"]).content() != NADAMW.content()


@pytest.mark.parametrize("factory", ["nowhere:factory", "torch:nothing", "torch", ":x"])
def test_a_scheduler_that_there_is_not(factory: str) -> None:
    with pytest.raises((ImportError, AttributeError, ValueError)):
        UserScheduler("rival", factory, factory).recipe()


def test_methods_share_initialisation_and_batches() -> None:
    """A schedule's runs are the same beside others and alone."""
    together, alone = trained(COSINE, CONSTANT), trained(CONSTANT)
    for mine, wanted in zip(together[2:], alone, strict=True):
        for column in ("test_loss", "val_loss", "best_loss"):
            assert mine[column] == pytest.approx(wanted[column], rel=1e-5)
        assert mine["val_curve"] == pytest.approx(wanted["val_curve"], rel=1e-5)
    assert together[0]["test_loss"] != pytest.approx(together[2]["test_loss"], rel=1e-3)


def test_every_kind_of_method_runs(tmp_path: Path) -> None:
    policy = str(write_bundle(tmp_path / "policy.onnx"))
    learned = replace(LEARNED, policy=policy)
    rows = dict(zip(("cosine", "mean_lr"), trained(COSINE, MEAN, seeds=(0,)), strict=True))
    for method in (
        learned, replace(learned, name="policy_val", validation=True),
        replace(learned, name="policy_steps", epochs=False), replace(learned, name="unprobed", unprobed=True),
        *(Ruled("rival", rule, rule) for rule in RULES), PRODIGY, OWN, replace(PILOT, policy=policy),
        *(replace(learned, name=name, ablation=name) for name in ABLATIONS),
    ):  # fmt: skip
        (rows[method.name],) = trained(method, seeds=(0,))
    assert {len(row) for row in rows.values()} == {len(rows["cosine"])}
    assert all(np.isfinite(row["test_loss"]) for name, row in rows.items() if name != "random_init")
    assert all(len(row["lr_curve"]) == CURVE_POINTS for row in rows.values())
    assert rows["mean_lr"]["lr_curve"] == pytest.approx([1e-3] * CURVE_POINTS)
    assert rows["policy"]["test_loss"] == rows["policy_val"]["test_loss"]  # this policy looks at nothing
    assert len({rows[finder]["test_loss"] for finder in FINDERS}) == len(FINDERS)
    assert rows["pilot"]["test_loss"] == pytest.approx(rows["policy"]["test_loss"], rel=1e-3)  # the public scheduler
    assert rows["pilot"]["val_curve"] == pytest.approx(rows["policy"]["val_curve"], rel=1e-3)
    assert [rows[name]["probe_steps"] > 0 for name in ("policy", "unprobed", "cosine")] == [True, False, False]


def test_a_policy_is_judged_in_its_own_decision_process(tmp_path: Path) -> None:
    """The same answer, 1, is another rate where actions span less."""
    rates = []
    for span in (0.5, 1.5):
        path = write_bundle(tmp_path / f"{span}.onnx", bias=9.0, action=ActionEquation(span=span, rise=9.0))
        method = Learned("policy", "policy", str(path), guarded=False)  # a guard may think 1 too high
        rates.append([row["lr_curve"][50] for row in trained(method)])
    np.testing.assert_allclose(np.log10(np.divide(rates[1], rates[0])), 1.0, atol=1e-5)


def test_policies_train_side_by_side_as_they_do_alone(tmp_path: Path) -> None:
    """Other answers, other things shown, in one population."""
    paths = [str(write_bundle(tmp_path / f"{bias}.onnx", bias=bias)) for bias in (-0.3, 0.2)]
    methods = [Learned("policy", path, path, epochs=it, validation=it) for path in paths for it in (False, True)]
    methods.append(replace(methods[0], ablation="hold"))
    as_alone(methods, distinct=6)


def test_finders_train_side_by_side_as_they_do_alone() -> None:
    as_alone([Ruled("rival", name, name) for name in FINDERS], distinct=4)


def as_alone(methods: Sequence[Method], distinct: int) -> None:
    """Methods of one population give what each gives by itself; so many results differ."""
    together, alone = trained(*methods), [row for method in methods for row in trained(method)]
    assert len({row["test_loss"] for row in together}) == distinct
    for mine, wanted in zip(together, alone, strict=True):
        assert mine["test_loss"] == pytest.approx(wanted["test_loss"], rel=1e-5)
        assert mine["lr_curve"] == pytest.approx(wanted["lr_curve"], rel=1e-5)


@pytest.mark.parametrize(
    ("shown", "losses", "knows_epochs"),
    [({}, 0, False), ({"validation": True}, MILESTONES, False), ({"epochs": True}, 0, True)],
)
def test_a_policy_is_shown_what_its_method_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: dict[str, bool], losses: int, knows_epochs: bool
) -> None:
    """`validation` shows as many validation losses as there are milestones, `epochs` the length of an epoch."""
    observed, epochs, observe, start = list[Any](), list[Any](), Pilot.observe, Pilot.__init__

    def note_loss(pilot: Pilot, val_loss: Any) -> None:
        observed.extend([val_loss] if np.isfinite(val_loss).any() else [])
        observe(pilot, val_loss)

    def note_epochs(pilot: Pilot, *args: Any, **kwargs: Any) -> None:
        epochs.append(kwargs["steps_per_epoch"])
        start(pilot, *args, **kwargs)

    monkeypatch.setattr(Pilot, "observe", note_loss)
    monkeypatch.setattr(Pilot, "__init__", note_epochs)
    trained(Learned("policy", "policy", str(write_bundle(tmp_path / "policy.onnx")), **shown), seeds=(0,))
    assert len(observed) == losses
    assert [np.isfinite(of_run).all() for of_run in epochs] == [knows_epochs]


def test_the_best_checkpoint_is_the_milestone_with_the_lowest_validation_loss() -> None:
    """A rate that blows up late: its end is bad, its best checkpoint what it was before."""
    (row,) = trained(Replayed("control", "late", (*(-2.5,) * 80, *(1.5,) * 20)), seeds=(0,))
    best = int(np.nanargmin(row["val_curve"]))
    assert best < MILESTONES - 1
    assert row["best_loss"] < 0.5 * (row["test_loss"] if np.isfinite(row["test_loss"]) else np.inf)
    (steady,) = trained(Replayed("control", "steady", (-2.5,) * 100), seeds=(0,))
    assert row["best_loss"] == pytest.approx(steady["test_loss"], rel=0.5)


def levels(row: dict[str, Any]) -> np.ndarray:
    """log10 of the rate without its envelope, after the probe, at the points of the run's curve."""
    n, rates = TASK.sample().n_steps, np.array(row["lr_curve"])
    steps = np.clip((np.linspace(0, 1, CURVE_POINTS) * n).astype(int), 0, n - 1)
    factors = np.array([FALLING.envelope(int(step), n) for step in steps])
    return np.log10(rates / factors)[steps >= row["probe_steps"]]


def test_hold_is_the_first_action_and_no_move_after_it(tmp_path: Path) -> None:
    """A policy that lowers the level at every decision; the control stays where the policy began."""
    policy = str(write_bundle(tmp_path / "policy.onnx", bias=-0.2))
    (mine,) = trained(Learned("policy", "policy", policy, epochs=True), seeds=(0,))
    (held,) = trained(replace(HOLD, policy=policy), seeds=(0,))
    assert levels(mine)[-1] < levels(mine)[0] - 1
    np.testing.assert_allclose(levels(held), levels(mine)[0], atol=1e-5)


@pytest.mark.parametrize(("feature", "moves"), [("loss_total", False), ("since_best", False), ("progress", True)])
def test_no_loss_hides_the_loss_and_nothing_else(tmp_path: Path, feature: str, moves: bool) -> None:
    """A policy that looks at one feature alone moves where the control is shown it."""
    policy = str(write_bundle(tmp_path / "policy.onnx", weights={feature: 1.0}))
    (mine,) = trained(Learned("policy", "policy", policy, epochs=True), seeds=(0,))
    (control,) = trained(replace(HOLD, policy=policy, ablation="no_loss"), seeds=(0,))
    assert np.ptp(levels(mine)) > 0.1
    assert (np.ptp(levels(control)) > 0.1) == moves
    assert np.allclose(levels(control), levels(mine), atol=1e-4) == moves


def test_guards_of_the_controls_see_the_real_loss(tmp_path: Path) -> None:
    """A first rate beyond all numbers: the loss is not finite, and its cuts reach controls that ask for none."""
    equation = ActionEquation(anchor=42.0, high=60.0)
    policy = str(write_bundle(tmp_path / "policy.onnx", bias=9.0, action=equation))
    for name in ABLATIONS:
        (row,) = trained(replace(HOLD, policy=policy, ablation=name, unprobed=True), seeds=(0,))
        assert levels(row)[-1] < levels(row).max() - 0.4, name
