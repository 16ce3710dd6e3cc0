"""How people train, as it is drawn: sizes within bounds, settings in their shares, oddities worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.workloads.base import OPTIMIZERS, REGIMES, Data, Regime
from pipeline.workloads.building import recipes
from pipeline.workloads.building.oddities import ODDITIES, draw_oddity
from pipeline.workloads.building.recipes import Sizes, assemble, draw_sizes, draw_stream
from pipeline.workloads.building.reinitialised import Reinitialised
from pipeline.workloads.building.sampling import Label, Splits, cross_entropy, mean_squared_error
from pipeline.workloads.building.training_losses import Scaled, Smoothed, Summed, huber

RNG = np.random.default_rng
OUTPUTS, TARGETS = torch.tensor([[0.0, 0.0], [np.log(3.0), 0.0]]), torch.tensor([1, 0])  # losses ln 2 and ln 4/3


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "value"),
    [
        (Summed(cross_entropy), OUTPUTS, TARGETS, np.log(2) + np.log(4 / 3)),
        (Scaled(cross_entropy, 10.0), OUTPUTS, TARGETS, 5 * (np.log(2) + np.log(4 / 3))),
        (Smoothed(0.5), OUTPUTS[:1], TARGETS[:1], np.log(2)),  # whatever the share, of even odds
        (Smoothed(0.5), OUTPUTS[1:], TARGETS[1:], 0.75 * np.log(4 / 3) + 0.25 * np.log(4)),
        (huber, torch.tensor([[0.5], [3.0]]), torch.zeros(2, 1), (0.25 + 5.0) / 2),  # 2 (3 - 1/2)
        (Summed(mean_squared_error), torch.ones(3, 2), torch.zeros(3, 2), 3.0),
        (Summed(mean_squared_error, over_predictions=True), torch.ones(3, 2), torch.zeros(3, 2), 6.0),
    ],
)  # fmt: skip
def test_losses_by_hand(loss, outputs: torch.Tensor, targets: torch.Tensor, value: float) -> None:
    assert float(loss(outputs, targets)) == pytest.approx(value, rel=1e-5)


def build() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    for weights in model.parameters():
        nn.init.ones_(weights)
    return model


def test_matrices_start_larger_and_vectors_do_not() -> None:
    for name, weights in Reinitialised(build, 5.0)().named_parameters():
        assert (weights == (5 if weights.ndim > 1 else 1)).all(), name
    first, second = (weights for weights in Reinitialised(build, 5.0, seed=1)().parameters() if weights.ndim > 1)
    assert first.unique().numel() == second.unique().numel() == 1
    assert first[0, 0] != second[0, 0] and 5 / 3 <= float(first[0, 0].detach()) <= 15


def test_oddities_come_in_their_shares() -> None:
    rng, labels = RNG(0), []
    for _ in range(600):
        label, loss, made = draw_oddity(rng, cross_entropy, build)
        labels.append(next((k for k, start in (("summed", "s"), ("scaled", "t"), ("initialised", "g"))
                            if label.startswith(start)), "none"))  # fmt: skip
        assert (loss is not cross_entropy) == (labels[-1] in ("summed", "scaled"))
        assert (made is not build) == (labels[-1] == "initialised")
    assert {kind: labels.count(kind) / 600 for kind in ODDITIES} == pytest.approx(ODDITIES, abs=0.06)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("deep", [False, True])
def test_sizes_are_within_bounds(regime: Regime, deep: bool) -> None:
    rng = RNG(0)
    drawn = [draw_sizes(rng, regime, (200, 9000), deep=deep) for _ in range(200)]
    steps = recipes.DEEP_STEPS if deep else recipes.STEPS
    assert all(200 <= sizes.n_train <= 9000 and steps[0] <= sizes.n_steps <= steps[1] for sizes in drawn)
    free = [sizes for sizes in drawn if 200 < sizes.n_train < 9000]
    low, high = recipes.EPOCHS[regime]
    assert len(free) > 50
    assert all(0.98 * low <= s.n_steps * s.batch_size / s.n_train <= 1.02 * high for s in free)


def test_few_examples_are_seen_a_hundred_times_at_most() -> None:
    drawn = [draw_sizes(RNG(seed), "small_noisy", (30, 40)) for seed in range(50)]
    assert all(s.n_steps >= 300 and s.n_steps * s.batch_size <= 100 * s.n_train for s in drawn)


@pytest.mark.parametrize("deep", [False, True])
def test_a_stream_repeats_nothing(deep: bool) -> None:
    drawn = [draw_stream(RNG(seed), deep=deep, most=20_000) for seed in range(50)]
    assert all(s.n_train == s.n_steps * s.batch_size <= 20_000 for s in drawn)


def splits(classes: bool) -> Splits:
    x = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long() if classes else x[:, :1]
    return Splits(*(Data(x[i], y[i]) for i in (slice(0, 50), slice(50, 70), slice(70, 90))))


def test_settings_belong_to_their_optimizer() -> None:
    rng, drawn = RNG(0), []
    for _ in range(400):
        label, sizes = Label("a"), Sizes(50, 300, 10)
        w = assemble(rng, "f", "ordinary", "transformer", label, splits(True), build, sizes)
        drawn.append(w)
        assert w.weight_decay in recipes.DECAYS.get(w.optimizer, {0.0: 1})
        assert not w.nesterov or w.optimizer == "sgd"
        assert w.betas is None or w.optimizer in ("adam", "adamw", "nadam")
        assert w.train_loss in (None, Smoothed(0.1))
    assert {w.optimizer for w in drawn} == set(OPTIMIZERS)
    clipped = sum(w.clip is not None for w in drawn) / len(drawn)
    assert clipped == pytest.approx(recipes.CLIPPED["transformer"], abs=0.07)


def test_what_the_steps_do_not_take_is_left_out() -> None:
    w = assemble(RNG(0), "f", "odd", "mlp", Label("a"), splits(False), build, Sizes(50, 2, 10))
    assert (len(w.train), w.batch_size, w.error) == (20, 10, None)
