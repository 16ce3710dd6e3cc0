"""Frozen tasks: how many of which regime, what each recipe has, and the parts that recipes share."""

from __future__ import annotations

import functools
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.workloads.base import Workload
from pipeline.workloads.benchmark.recipes import N_TEST, N_VAL, examples, next_tokens, noised, shifted
from pipeline.workloads.families import FAMILIES
from repository import TOP

PAGE = TOP / "docs" / "workloads_benchmark.md"
FROZEN = {name: item for name, item in FAMILIES.items() if item.frozen == 1 and not item.split.endswith("_large")}
RATES = {"sgd": {0.1, 3e-3}, "adam": {1e-3, 3e-4}, "adamw": {1e-3, 3e-4, 5e-5}}
ONE_PASS = {"stdlib_gpt", "commands_gpt", "bodies_mlp"}


@functools.cache
def draw(name: str) -> Workload:
    return FROZEN[name].sample(np.random.default_rng(0))


def test_every_regime_has_its_tasks() -> None:
    counts = Counter((item.split, item.regime) for item in FROZEN.values())
    assert counts["selection", "ordinary"] >= 8 and counts["heldout", "ordinary"] >= 14
    assert counts["selection", "finetuning"] == 2 and counts["heldout", "finetuning"] == 3
    assert counts["selection", "odd"] == 3 and counts["heldout", "odd"] == 4


def rows() -> dict[str, list[str]]:
    """The cells of the page's tables by task."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_page_names_every_task() -> None:
    assert list(rows()) == list(FROZEN)


@pytest.mark.parametrize("name", FROZEN)
def test_the_page_has_the_numbers_of_a_task(name: str) -> None:
    w, (regime, _, _, optimizer, beside, epochs, batch, steps, default, _) = draw(name), rows()[name]
    assert regime == FROZEN[name].regime
    assert optimizer.split(",")[0].lower() == w.optimizer and w.nesterov == ("Nesterov" in optimizer)
    assert (int(epochs) * (len(w.train) // w.batch_size), int(batch)) == (w.n_steps, w.batch_size) and int(
        steps
    ) == w.n_steps
    assert default == f"{w.default[0]} {w.default[1]:g}"
    settings = {"decay": w.weight_decay, "clip": w.clip, "smoothing": w.train_loss, "betas": w.betas}
    assert {word for word in settings if word in beside} == {
        word for word, value in settings.items() if value and not (word == "smoothing" and FROZEN[name].regime == "odd")
    }


@pytest.mark.parametrize("name", FROZEN)
def test_a_recipe_has_the_sizes_and_defaults_of_its_kind(name: str) -> None:
    w = draw(name)
    schedule, rate = w.default
    assert w.textbook and schedule in ("cosine", "warmup_cosine", "linear") and rate in RATES[w.optimizer]
    assert 32 <= w.batch_size <= 128 and 300 <= w.n_steps <= 3000
    assert len(w.val) == N_VAL and 1024 <= len(w.test) <= N_TEST
    epochs = w.n_steps * w.batch_size / len(w.train)
    assert epochs <= 1 if name in ONE_PASS else 1.9 <= epochs <= 30
    assert bool(w.start) == (FROZEN[name].regime == "finetuning")


def test_the_recipes_together_have_what_people_use() -> None:
    for split in ("selection", "heldout"):
        tasks = [draw(name) for name, item in FROZEN.items() if (item.split, item.regime) == (split, "ordinary")]
        modules = [{type(module) for module in w.build().modules()} for w in tasks]
        assert {w.optimizer for w in tasks} == {"sgd", "adam", "adamw"}
        assert sum(bool({nn.BatchNorm1d, nn.BatchNorm2d} & kinds) for kinds in modules) >= 3
        assert sum(nn.GroupNorm in kinds for kinds in modules) >= 1
        assert sum(nn.Dropout in kinds for kinds in modules) >= 4
        assert all(any(setting(w) for w in tasks) for setting in (
            lambda w: w.clip, lambda w: w.nesterov, lambda w: w.augment, lambda w: w.train_loss, lambda w: w.betas,
            lambda w: w.error is None,
        ))  # fmt: skip


@pytest.mark.parametrize("name", [name for name, item in FROZEN.items() if item.regime == "finetuning"])
def test_fine_tuning_starts_from_all_weights_but_the_head(name: str) -> None:
    """Two runs share them; heads are their own."""
    first, other = (draw(name).initialise(seed).state_dict() for seed in (1, 2))
    own = {key.split(".")[0] for key in first if not torch.equal(first[key], other[key])}
    assert own <= {"head", "pool"} and "head" in own
    assert draw(name).start.keys() <= first.keys()


def test_examples_that_come_twice_count_once() -> None:
    x = np.arange(3000)[:, None] % 2500
    splits = examples(np.random.default_rng(0), x, x[:, 0], 196)
    drawn = torch.cat([splits.train.x, splits.val.x, splits.test.x])
    assert len(splits.train) == 196 and len(splits.val) == N_VAL and len(drawn) == len(drawn.unique())


def test_the_next_token_is_the_target() -> None:
    sequences = np.arange(3000)[:, None] + np.arange(5)
    splits = next_tokens(np.random.default_rng(0), sequences, 100)
    assert torch.equal(splits.train.y, splits.train.x + 1) and splits.train.x.shape == (100, 4)


@pytest.mark.parametrize("shape", [(2, 7), (1, 4, 6)])
def test_shifting_moves_whole_inputs(shape: tuple[int, ...]) -> None:
    """Every example is some roll of itself, and all nine (or three) of them come."""
    torch.manual_seed(0)
    x, y = torch.randn(200, *shape), torch.arange(200)
    moved, same = shifted(x, y)
    assert torch.equal(same, y)
    axes = tuple(range(1, len(shape)))
    rolls = [torch.roll(x, steps, [axis + 1 for axis in axes]) for steps in np.ndindex(*(3,) * len(axes))]
    rolls = [torch.roll(roll, (-1,) * len(axes), [axis + 1 for axis in axes]) for roll in rolls]
    which = torch.stack([(roll - moved).flatten(1).abs().amax(1) == 0 for roll in rolls])
    assert which.any(0).all() and which.any(1).all()


def test_noise_has_the_given_deviation() -> None:
    torch.manual_seed(0)
    x, y = torch.zeros(400, 1, 8, 8), torch.ones(400)
    noisy, same = noised(x, y, 0.5)
    assert noisy.std().item() == pytest.approx(0.5, rel=0.02) and same is y
