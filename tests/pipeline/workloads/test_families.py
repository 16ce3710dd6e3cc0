"""One routine over every family: repeatable, disjoint splits, sound start, and members that train side by side."""

from __future__ import annotations

import functools
import math
import re

import numpy as np
import pytest
import torch

from pipeline.code_hash import closure
from pipeline.workloads.base import Data, Workload
from pipeline.workloads.building import recipes
from pipeline.workloads.building.sampling import EPOCHS, STEPS
from pipeline.workloads.datasets import text
from pipeline.workloads.families import FAMILIES, family, names
from pipeline.workloads.recorded import long_trainings, wide
from pipeline.workloads.training.population import Population
from repository import TOP

SEEDS = (0, 1, 2)
SMALL = [name for name, item in FAMILIES.items() if not item.split.endswith("_large")]  # test_large.py has the others
EVERY = pytest.mark.parametrize("name", SMALL)
DRAWS = {  # recipes by hand draw little, and wide networks take long
    name: SEEDS[:1] if FAMILIES[name].frozen or FAMILIES[name].dear else SEEDS for name in SMALL
}
EVERY_DRAW = pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in DRAWS for seed in DRAWS[name]])


@functools.cache
def draw(name: str, seed: int) -> Workload:
    return FAMILIES[name].sample(np.random.default_rng(seed))


def rows(data: Data) -> set[bytes]:
    return {row.tobytes() for row in data.x.numpy()}


@EVERY
def test_same_seed_same_workload(name):
    first, second = draw(name, 0), FAMILIES[name].sample(np.random.default_rng(0))
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(first, part).x, getattr(second, part).x)
        assert torch.equal(getattr(first, part).y, getattr(second, part).y)
    assert first.start.keys() == second.start.keys()
    assert all(torch.equal(first.start[key], second.start[key]) for key in first.start)
    numbers = ("name", "optimizer", "batch_size", "n_steps", "weight_decay", "baseline_loss")
    assert all(getattr(first, key) == getattr(second, key) for key in numbers)


@EVERY
def test_a_family_with_texts_of_python_names_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For then Python's version is part of the keys of its results."""
    read = set[str]()
    if text.__name__ in closure(FAMILIES[name].module):
        text.characters.cache_clear(), text.words.cache_clear()
        source = text.source
        monkeypatch.setattr(text, "source", lambda file: read.add(file) or source(file))
        FAMILIES[name].sample(np.random.default_rng(0))
    assert FAMILIES[name].packages == (text.PYTHON if read - {*text.PACKAGES} else ())


@EVERY_DRAW
def test_parts_are_sound(name, seed):
    w = draw(name, seed)
    assert w.family == name
    fewest, most = long_trainings.STEPS if w.family.startswith("long_") else STEPS
    fewest = wide.STEPS[0] if FAMILIES[name].dear else fewest
    assert fewest <= w.n_steps <= most
    assert w.weight_decay >= 0
    if FAMILIES[name].split != "train" and FAMILIES[name].frozen is None:
        assert (w.weight_decay > 0) == (w.optimizer == "adamw")
    assert w.train.x.dtype in (torch.float32, torch.int64)
    assert w.train.y.dtype == (torch.float32 if w.error is None else torch.int64)
    assert rows(w.train).isdisjoint(rows(w.val) | rows(w.test))
    assert rows(w.val).isdisjoint(rows(w.test))
    assert min(len(w.val), len(w.test)) >= {"tabular": 44, "autompg": 96, "prose_bag": 96}.get(name, 128)
    epochs = w.n_steps / w.steps_per_epoch
    assert 1 <= epochs <= EPOCHS * 1.01


@EVERY_DRAW
def test_start_is_finite_and_repeatable(name, seed):
    w = draw(name, seed)
    before = torch.get_rng_state()
    model, again, other = w.initialise(5), w.initialise(5), w.initialise(6)
    assert torch.equal(before, torch.get_rng_state())
    state = model.state_dict()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in state.items())
    if not w.start:
        assert any(not torch.equal(value, other.state_dict()[key]) for key, value in state.items())
    with torch.no_grad():
        outputs = model(w.val.x)
        assert math.isfinite(w.loss(outputs, w.val.y))
        assert w.error is None or 0 <= w.error(outputs, w.val.y) <= 1


@EVERY
def test_members_train_side_by_side(name, capsys):
    """A population compares a step of the mapped module with the plain loop's, and says so where they differ."""
    population = Population(draw(name, 0), (0, 1, 2))
    assert torch.isfinite(population.train_step(0, np.full(3, 1e-4))).all()
    assert "one run at a time" not in capsys.readouterr().err


@EVERY
def test_baseline_is_the_best_constant(name):
    w = draw(name, 0)
    y = w.val.y
    if w.error is None:
        constant, worse = y.mean(0), y.mean(0) + 0.3
    else:
        share = torch.bincount(y.flatten()).float() / y.numel()
        constant, worse = torch.log(share + 1e-12), torch.zeros_like(share)
    spread = (*y.shape, -1) if w.error else y.shape
    losses = [float(w.loss(c.expand(spread), y)) for c in (constant, worse)]
    assert losses[0] == pytest.approx(w.baseline_loss, rel=1e-4)
    assert losses[1] >= losses[0]


def test_splits_hold_the_families():
    assert len(names("train")) >= 12
    assert len(names("selection")) >= 4
    assert len(names("heldout")) >= 6
    judged = {"selection", "heldout"}
    assert {item.split for item in FAMILIES.values()} == {"train", *judged, *(f"{split}_large" for split in judged)}
    held_out = (
        "mnist_", "stdlib", "autompg", "pixels", "strokes", "crossed", "strings", "ponds", "reports", "pendulum",
        "rules", "bodies",
    )  # fmt: skip
    assert all(any(d in n for d in held_out) == item.split.startswith("heldout") for n, item in FAMILIES.items())


def test_unknown_family_names_the_known_ones():
    assert family("spirals") is FAMILIES["spirals"]
    with pytest.raises(KeyError, match=r"'spiral' is unknown.*spirals.*mnist_cnn"):
        family("spiral")


@pytest.mark.parametrize(
    ("name", "shares"),
    [("illconditioned", recipes.OPTIMIZER_SHARES["mlp"]), ("diabetes", {"adam": 0.45, "adamw": 0.20, "sgd": 0.35})],
)
def test_optimizer_shares(name, shares):
    rng = np.random.default_rng(0)
    drawn = [FAMILIES[name].sample(rng).optimizer for _ in range(400)]
    assert {kind: drawn.count(kind) / len(drawn) for kind in shares} == pytest.approx(shares, abs=0.06)


def test_the_page_names_every_family_with_its_regime():
    page = (TOP / "docs/workloads.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert listed == {name: FAMILIES[name].regime for name in names("train")}
