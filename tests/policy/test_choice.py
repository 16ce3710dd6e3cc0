"""What critics come to: holding unless a move is worth it, and the same in torch, in numpy and in ONNX."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lrpilot.decisions.features import NAMES
from policy import agents
from policy.advantage import FIRST, curves
from policy.buffer import GRID
from policy.choice import SHARP, Chooser, chosen
from policy.graph import traced
from policy.settings import DEPARTURES, Caution
from policy.store import DECISION, RUN, Masks, Store, View
from tiny import learner

CAUTION = Caution(first=0.0, later=1.0, margin=0.1)
HOLD = len(GRID) // 2
LATER, AT_FIRST = np.zeros((1, len(NAMES))), np.zeros((1, len(NAMES)))
AT_FIRST[:, FIRST] = 1.0


def critics(**worth: tuple[float, ...]) -> np.ndarray:
    """(critics, 1, moves): moves of which nothing is said are far worse than holding."""
    count = len(next(iter(worth.values())))
    values = np.full((count, 1, len(GRID)), -9.0)
    values[:, :, HOLD] = 0.0
    for name, each in worth.items():
        values[:, 0, int(name[1:])] = each
    return values


@pytest.mark.parametrize(
    ("values", "later", "first"),
    [
        (critics(_5=(0.08, 0.08)), 0.0, GRID[5]),  # worth less than the margin
        (critics(_5=(0.1, 0.1)), 0.0, GRID[5]),
        (critics(_5=(0.15, 0.15)), 0.5 * GRID[5], GRID[5]),
        (critics(_5=(0.4, 0.4)), GRID[5], GRID[5]),
        (critics(_5=(0.9, -0.3)), 0.0, GRID[5]),  # mean 0.3, deviation 0.6: not sure
        (critics(_5=(0.9, 0.7), _15=(2.0, 0.6)), GRID[5], GRID[15]),  # 0.8 - 0.1 before 1.3 - 0.7
        (critics(_5=(-0.4, -0.4)), 0.0, 0.0),
        (critics(_5=(0.4, 0.4), _15=(0.4, 0.4)), 0.0, 0.0),  # as good either way: between them
    ],
)
def test_choices_by_hand(values: np.ndarray, later: float, first: float) -> None:
    np.testing.assert_allclose(chosen(CAUTION, LATER, values), later, atol=0.01)
    np.testing.assert_allclose(chosen(CAUTION, AT_FIRST, values), first, atol=0.01)


def test_neighbours_share_the_choice_as_their_worth_does() -> None:
    """One that is worse by SHARP weighs 1 / e of the other."""
    values = critics(_15=(0.5,), _16=(0.5 - SHARP,))
    share = 1 / (1 + np.e)
    np.testing.assert_allclose(chosen(CAUTION, LATER, values), (1 - share) * GRID[15] + share * GRID[16], rtol=1e-6)


def test_a_move_of_nothing_is_worth_nothing_and_levels_have_a_curve() -> None:
    first, later = curves()
    assert GRID[HOLD] == 0.0 and not later[:, HOLD].any()
    assert (later[:2, :HOLD] == 0).all() and (later[2:, HOLD + 1 :] == 0).all()
    assert (first.sum(axis=0) > 0.5).all()


def departures(count: int) -> View:
    """So many, of 8 tasks, with random observations; an action returns itself."""
    rng = np.random.default_rng(0)
    decisions = rng.standard_normal((2 * count, len(DECISION))).astype(np.float32)
    constants = rng.standard_normal((count, len(RUN))).astype(np.float32)
    actions = rng.uniform(-1, 1, 2 * count).astype(np.float32)
    tasks = np.full(8, count // 8)
    return Store(decisions, actions, actions.copy(), constants, 2 * np.arange(count + 1), tasks).masked(
        Masks(0.5, 0.3), 0
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained() -> tuple[View, list]:
    view = departures(40)
    settings = learner("dqn", learns_from=DEPARTURES, steps=40, learning_rate=1e-2, hidden=(12,))
    return view, [agents.train(view, settings, seed) for seed in range(3)]


def test_the_graph_chooses_as_the_critics_say(trained: tuple[View, list], tmp_path: Path) -> None:
    import onnxruntime

    _, critics = trained
    observations = np.random.default_rng(0).normal(0, 2, (64, len(NAMES))).astype(np.float32)
    observations[::2, FIRST] = 0.0
    values = np.stack([agents.values(critic, observations) for critic in critics])
    assert values.shape == (3, 64, len(GRID))
    wanted = chosen(CAUTION, observations, values)
    chooser = Chooser(critics, CAUTION).eval()
    with torch.no_grad():
        np.testing.assert_allclose(chooser(torch.from_numpy(observations))[:, 0], wanted, atol=1e-5)
    model = traced(chooser, len(NAMES), "action")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (answers,) = session.run(None, {session.get_inputs()[0].name: observations})
    np.testing.assert_allclose(answers[:, 0], wanted, atol=1e-5)
    assert len({*np.sign(wanted).tolist()}) > 1


def test_critics_learn_what_departures_return() -> None:
    """A rise is worth its size, a fall costs it, whatever is observed; and what no move does is worth nothing."""
    view = departures(400)
    settings = learner("dqn", learns_from=DEPARTURES, steps=600, batch_size=64, learning_rate=1e-2, hidden=(16,))
    critic = agents.train(view, settings, 0)
    rows, runs = view.rows_of(np.arange(50))
    values = agents.values(critic, view.observations(rows, runs))
    np.testing.assert_allclose(values.mean(axis=0)[3:-3], GRID[3:-3], atol=0.15)
