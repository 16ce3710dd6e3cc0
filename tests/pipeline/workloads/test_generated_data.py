"""Generated data of selection and held-out tasks: repeatable, of stated shapes, and true to the rules they state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.workloads.heldout import data as heldout
from pipeline.workloads.selection import data as selection

Rng = np.random.Generator
MAKERS: dict[str, tuple[Callable[[Rng], tuple[np.ndarray, ...]], list[tuple[int, ...]]]] = {
    # name: make, shapes without the first axis of 200
    "strokes": (lambda r: heldout.strokes(r, heldout.alphabet(r, 5), 200, 9, 0.1), [(1, 9, 9), ()]),
    "clean_strokes": (lambda r: (heldout.clean_strokes(r, heldout.alphabet(r, 5), 200, 8),), [(1, 8, 8)]),
    "crossed": (lambda r: heldout.crossed_strokes(r, heldout.alphabet(r, 6), 200, 8, 0.1), [(1, 8, 8), (8, 8)]),
    "reports": (lambda r: heldout.reports(r, np.random.default_rng(3), 200), [(16,), ()]),
    "pendulums": (lambda r: (heldout.pendulums(r, 200, 7, 0.1),), [(7, 4)]),
    "bodies": (lambda r: heldout.bodies(r, 200, 0.1), [(20,), (8,)]),
    "ponds": (lambda r: heldout.ponds(r, 200, 8, 0.1), [(3, 8, 8), (8, 8, 1)]),
    "strings": (lambda r: heldout.strings(r, 200, 10, 0.1), [(1, 40), ()]),
    "rules": (lambda r: heldout.rules(r, 200, 0.1), [(11,), ()]),
    "solids": (lambda r: selection.solids(r, 200, 9, 0.1), [(1, 9, 9), (), (9, 9)]),
    "automata": (lambda r: selection.automata(r, 200, 8, 6, 0.1), [(1, 8, 8), ()]),
    "commands": (lambda r: selection.commands(r, np.random.default_rng(3), 200), [(14,), ()]),
    "attractors": (lambda r: (selection.attractors(r, 200, 6, 0.1),), [(6, 3)]),
    "ratings": (lambda r: selection.ratings(r, 200, 0.1), [(7,), (1,)]),
}


@pytest.mark.parametrize("name", MAKERS)
def test_data_repeat_and_have_the_stated_shapes(name: str) -> None:
    make, shapes = MAKERS[name]
    first, again, other = (make(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert [part.shape for part in first] == [(200, *shape) for shape in shapes]
    for part, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(part, same)
        assert part.dtype in (np.float32, np.int64) and np.isfinite(part).all()
        assert (part != different).any()


@pytest.mark.parametrize(
    ("name", "classes"),
    [("strokes", 5), ("reports", 3), ("strings", 10), ("solids", 8), ("automata", 6), ("commands", 6)],
)
def test_every_class_comes(name: str, classes: int) -> None:
    labels = MAKERS[name][0](np.random.default_rng(0))[1]
    assert set(np.unique(labels)) == set(range(classes))


@pytest.mark.parametrize("make", [heldout.reports, selection.commands])
def test_texts_open_with_1_and_fill_up_with_0(make: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    x, _ = make(np.random.default_rng(0), np.random.default_rng(3), 500)
    assert (x[:, 0] == 1).all() and (x[:, 1] > 1).all()
    assert (np.diff((x == 0).astype(int), axis=1) >= 0).all()  # no word after a 0


def test_a_report_with_but_follows_its_second_clause() -> None:
    """Without noise: the sign of an adjective (33..42), turned round by "not" (43), decides after "but" (46)."""
    x, y = heldout.reports(np.random.default_rng(0), np.random.default_rng(3), 2000, noise=0.0)
    verdicts: dict[tuple[int, bool], set[int]] = {}
    for words, verdict in zip(x.tolist(), y.tolist(), strict=True):
        if 46 in words and 47 in words:
            clause = words[words.index(46) :]
            adjective = next(word for word in clause if 33 <= word < 43)
            verdicts.setdefault((adjective, 43 in clause), set()).add(verdict)
    assert len(verdicts) == 20 and all(len(known) == 1 for known in verdicts.values())
    for adjective in range(33, 43):
        assert verdicts[adjective, False] | verdicts[adjective, True] == {0, 2}


def test_automata_follow_their_rules() -> None:
    """Without noise a cell is a function of the three above it, the same in all images of a class."""
    x, y = selection.automata(np.random.default_rng(0), 300, 8, 6, 0.0)
    cells = (x[:, 0] > 0).astype(int)
    above = 4 * np.roll(cells, 1, 2) + 2 * cells + np.roll(cells, -1, 2)
    rules = set()
    for kind in range(6):
        over, under = above[y == kind][:, :-1], cells[y == kind][:, 1:]
        table = [set(under[over == code].tolist()) for code in range(8)]
        assert all(len(values) == 1 for values in table)
        rules.add(sum(values.pop() << code for code, values in enumerate(table)))
    assert len(rules) == 6


def test_pendulums_are_angles() -> None:
    x = heldout.pendulums(np.random.default_rng(0), 50, 6, 0.0)
    np.testing.assert_allclose(x[..., 0] ** 2 + x[..., 1] ** 2, 1, rtol=1e-5)
    np.testing.assert_allclose(x[..., 2] ** 2 + x[..., 3] ** 2, 1, rtol=1e-5)


def test_bodies_keep_their_momentum() -> None:
    """The centre of mass goes as far as the momentum says; targets are in units of their deviation."""
    x, y = (a.astype(np.float64) for a in heldout.bodies(np.random.default_rng(0), 200, 0.0))
    mass, speed, moved = x[:, :4, None], x[:, 12:].reshape(-1, 4, 2), y.reshape(-1, 4, 2)
    momentum, went = (mass * speed).sum(1).ravel(), (mass * moved).sum(1).ravel()
    unit = (momentum @ went) / (went @ went)
    np.testing.assert_allclose(unit * went, momentum, atol=1e-3 * np.abs(momentum).max())


def test_a_crossing_letter_lies_on_top() -> None:
    """Without noise, ink above .4 is named; paper is what has less of both."""
    x, y = heldout.crossed_strokes(np.random.default_rng(0), heldout.alphabet(np.random.default_rng(1), 6), 100, 8, 0.0)
    np.testing.assert_array_equal(y > 0, 0.4 * x[:, 0] + 0.45 > 0.4)
    assert set(np.unique(y)) == {0, 1, 2}


def test_flat_ground_is_no_solid() -> None:
    """Without noise the ground of an image has one grey."""
    x, _, mask = selection.solids(np.random.default_rng(0), 100, 9, 0.0)
    for image, solid in zip(x[:, 0], mask, strict=True):
        assert np.ptp(image[solid == 0]) < 1e-6


@pytest.mark.parametrize(
    ("make", "sizes"), [(heldout.rules, heldout.RULE_SIZES), (selection.ratings, selection.RATING_SIZES)]
)
def test_codes_of_tables_stay_within_their_columns(
    make: Callable[..., tuple[np.ndarray, np.ndarray]], sizes: tuple[int, ...]
) -> None:
    x, _ = make(np.random.default_rng(0), 5000, 0.1)
    codes = x[:, : len(sizes)]
    np.testing.assert_array_equal(codes, codes.astype(int))
    assert (codes.min(0) == 0).all() and (codes.max(0) == np.array(sizes) - 1).all()
