"""The large tasks of the benchmark, and the wide networks of the collection: sizes, starts and costs."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.workloads.base import Workload
from pipeline.workloads.building.library_starts import STARTS, Started
from pipeline.workloads.families import FAMILIES
from pipeline.workloads.networks.deep_networks import LanguageModel
from pipeline.workloads.networks.mixer import Mixer
from pipeline.workloads.networks.modern import BothWays, ConvNext, Llama, SeriesTransformer, TokenVit
from pipeline.workloads.recorded import wide

LARGE = [name for name, item in FAMILIES.items() if item.split.endswith("_large")]
WIDE = [name for name, item in FAMILIES.items() if item.dear]


@functools.cache
def draw(name: str, seed: int = 0) -> Workload:
    return FAMILIES[name].sample(np.random.default_rng(seed))


def test_selection_has_six_and_held_out_ten_tasks_of_both_regimes() -> None:
    for split, count in (("selection_large", 6), ("heldout_large", 10)):
        mine = [item for item in FAMILIES.values() if item.split == split]
        assert len(mine) == count and {item.regime for item in mine} == {"ordinary", "finetuning"}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_task_is_large_and_sound(name: str) -> None:
    w = draw(name)
    model = w.initialise(1)
    assert 250_000 <= sum(p.numel() for p in model.parameters()) <= 3_300_000
    assert 300 <= w.n_steps <= 600 and w.textbook and 16 <= w.batch_size <= 64
    with torch.no_grad():
        assert math.isfinite(w.loss(model(w.val.x[:64]), w.val.y[:64]))
    rows = [{row.tobytes() for row in part.x.numpy()} for part in (w.train, w.val, w.test)]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


@pytest.mark.parametrize("name", WIDE)
def test_a_wide_training_is_affordable(name: str) -> None:
    w = draw(name)
    assert wide.flops(w) <= wide.FLOPS * 1.01 and wide.STEPS[0] <= w.n_steps <= wide.STEPS[1] and w.batch_size >= 16


def test_the_cost_of_a_step_by_hand() -> None:
    """Two products of 4 x 5 x 3 multiplications and additions forward, twice as many backward."""
    assert wide.work(lambda: nn.Linear(5, 3), torch.ones(4, 5)) == 3 * 2 * 4 * 5 * 3


def test_every_start_draws_all_matrices_as_its_library() -> None:
    """Standard deviations of a matrix of fan-in 64 and fan-out 256; projections onto the residual stream of GPT-2."""
    build = lambda: LanguageModel(50, 8, 64, 4, 2)  # noqa: E731
    wanted = {"torch": 1 / math.sqrt(3 * 64), "bert": 0.02, "gpt": 0.02, "xavier": math.sqrt(2 / 320), "kaiming": 0.01}
    for start in STARTS:
        torch.manual_seed(0)
        block = Started(build, start)().blocks[0]  # pyright: ignore[reportIndexIssue]
        assert float(block.up.weight.std()) == pytest.approx(wanted[start], rel=0.05), start
    torch.manual_seed(0)
    down = Started(build, "gpt")().blocks[0].down.weight  # pyright: ignore[reportIndexIssue]
    assert float(down.std()) == pytest.approx(0.02 / math.sqrt(8), rel=0.05)


IMAGES, TOKENS = torch.randn(2, 1, 8, 8), torch.randint(0, 9, (2, 6))


@pytest.mark.parametrize(
    ("model", "x", "shape"),
    [
        (Mixer((1, 8, 8), 4, 8, 2, 3), IMAGES, (2, 3)), (TokenVit((1, 8, 8), 8, 2, 2, 3), IMAGES, (2, 3)),
        (ConvNext((1, 8, 8), (4, 8), 1, 3), IMAGES, (2, 3)), (Llama(9, 8, 2, 2), TOKENS, (2, 6, 9)),
        (BothWays(9, 4, 1, 3), TOKENS, (2, 3)),
        (SeriesTransformer(4, 6, 8, 1, 2, 5), torch.randn(2, 6, 4), (2, 5)),
    ],
)  # fmt: skip
def test_a_network_answers_in_the_documented_shape(model: nn.Module, x: torch.Tensor, shape: tuple[int, ...]) -> None:
    assert model(x).shape == shape


def test_a_llama_does_not_look_ahead_and_knows_places() -> None:
    torch.manual_seed(0)
    model = Llama(9, 16, 2, 2)
    changed = TOKENS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 9
    assert torch.allclose(model(TOKENS)[:, :-1], model(changed)[:, :-1], atol=1e-6)
    same = torch.zeros(1, 6, dtype=torch.int64)
    same[0, 0] = 1
    answers = model(same)
    assert not torch.allclose(answers[0, 2], answers[0, 4], atol=1e-4)
