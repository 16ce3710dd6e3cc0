"""Generated data: what a class, a word, a row or a spring is, held to what the generators promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.workloads.building.augmentation import moved
from pipeline.workloads.datasets import grammars
from pipeline.workloads.datasets.images import KINDS, draw_images, polygons
from pipeline.workloads.datasets.mixed_tables import draw_table
from pipeline.workloads.datasets.simulations import heat, motion, spring_tracks, springs
from pipeline.workloads.families import family
from pipeline.workloads.recorded.languages import SMALLEST

RNG = np.random.default_rng


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_images(kind: str, seed: int) -> None:
    name, x, y = draw_images(RNG(seed), 300, 8, kind)
    assert (name, x.dtype, x.shape[2:], x.shape[1] in (1, 3)) == (kind, np.float32, (8, 8), True)
    assert (x.mean(), x.std()) == pytest.approx((0, 1), abs=1e-3)
    assert set(y) == set(range(y.max() + 1)) and 3 <= y.max() + 1 <= 10


def test_a_hexagon_is_twice_a_triangle() -> None:
    """Of equal circumradius: areas 3/2 sin 120 and 3 sin 60 degrees, if none leaves the picture."""
    areas = [np.minimum(polygons(RNG(0), np.full(400, y), 24), 0) == 0 for y in (0, 3)]
    assert areas[0].mean() / areas[1].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("writer", grammars.WRITERS)
def test_words_are_of_the_vocabulary(writer: str) -> None:
    x = grammars.WRITERS[writer](RNG(0), 200, 12, 30)
    assert x.shape == (200, 12) and x.min() >= 0 and x.max() < 30


@pytest.mark.parametrize(("order", "most"), [(1, 20), (2, 400)])
def test_a_chain_is_told_by_the_symbols_before(order: int, most: int) -> None:
    """Few symbols follow on the same `order` symbols: fewer than on one less."""
    x = grammars.chain(RNG(0), 3000, 8, 20, order)
    contexts = {tuple(row[3 - order : 3]): set[int]() for row in x}
    for row in x:
        contexts[tuple(row[3 - order : 3])].add(int(row[3]))
    assert len(contexts) <= most
    assert np.mean([len(following) for following in contexts.values()]) < 10


@pytest.mark.parametrize("seed", [3, 150, 150719613])
def test_a_language_has_texts_for_every_batch(seed: int) -> None:
    """With these seeds, most texts of the language that is drawn first are equal."""
    workload = family("grammar_lm").sample(RNG(seed))
    assert workload.batch_size >= SMALLEST and len(workload.train) >= workload.n_steps * workload.batch_size


def test_authors_have_words_and_habits() -> None:
    x, y = grammars.authors(RNG(0), 4000, 10, 1000, 3)
    assert set(y) == {0, 1, 2} and x.min() >= 0 and x.max() < 1000
    counts = np.array([np.bincount(x[y == author].ravel(), minlength=1000) for author in range(3)], float)
    share = counts / counts.sum(1, keepdims=True)
    assert np.abs(share[0] - share[1]).sum() > 0.1


@pytest.mark.parametrize(
    ("damping", "time", "place", "speed"),
    [(0.0, np.pi / 2, 3.0, -2.0), (0.0, np.pi, -2.0, -3.0), (0.5, 0.0, 2.0, 3.0)],
)
def test_a_spring_by_hand(damping: float, time: float, place: float, speed: float) -> None:
    """Of frequency 1, from place 2 at speed 3: after a quarter swing both have changed their parts."""
    moved_to = motion(*(np.array([value]) for value in (2.0, 3.0, 1.0, damping, time)))
    assert moved_to[:, 0] == pytest.approx([place, speed])


def test_a_damped_spring_follows_its_equation() -> None:
    values, step = np.array([2.0, 3.0]), 1e-4
    for _ in range(10_000):
        place, speed = values
        values = values + step * np.array([speed, -2 * 0.3 * speed - 1.5**2 * place])
    assert motion(*(np.array([v]) for v in (2.0, 3.0, 1.5, 0.3, 1.0)))[:, 0] == pytest.approx(values, rel=1e-2)


def test_physics_has_shapes_and_scales() -> None:
    x, y = springs(RNG(0), 500)
    assert (x.shape, y.shape) == ((500, 6), (500, 2))
    assert y.std(0) == pytest.approx(1, abs=0.15)
    before, after = spring_tracks(RNG(0), 40, 9)
    assert before.shape == after.shape == (40, 9, 2) and np.array_equal(before[:, 1:], after[:, :-1])
    later, first = heat(RNG(0), 200, 8)
    assert later.shape == first.shape == (200, 8, 8)
    assert np.corrcoef(later.ravel(), first.ravel())[0, 1] > 0.5


@pytest.mark.parametrize("classes", [None, 2, 5])
def test_tables(classes: int | None) -> None:
    table = draw_table(RNG(3), 1000, classes, 50)
    codes = table.x[:, : len(table.sizes)]
    assert table.x.shape[1] == len(table.sizes) + table.n_numeric
    assert (codes == codes.round()).all() and (codes >= 0).all() and (codes < table.sizes).all()
    if classes is None:
        assert table.y.shape == (1000, 1)
    else:
        assert np.bincount(table.y) == pytest.approx(1000 / classes, abs=2)


def test_moved_images_keep_their_pixels() -> None:
    x, y = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4), torch.tensor([5, 6])
    torch.manual_seed(0)
    first, targets = moved(x, y)
    torch.manual_seed(0)
    again, _ = moved(x, y)
    assert torch.equal(first, again) and torch.equal(targets, y) and not torch.equal(first, x)
    assert torch.equal(first.flatten(2).sort().values, x.flatten(2).sort().values)
