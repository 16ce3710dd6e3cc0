"""Columns in units of their own: how far apart they lie, and how far from zero."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.workloads.recorded.unscaled import AWAY, DECADES, LARGEST, in_units


@pytest.mark.parametrize("seed", range(12))
def test_units_lie_decades_apart_and_columns_near_enough_to_zero(seed):
    x = np.random.default_rng(100 + seed).standard_normal((4000, 60))
    raw = in_units(np.random.default_rng(seed), x)
    units = raw.std(0)
    assert raw.dtype == np.float32
    assert units.max() <= 10 ** LARGEST[1] * 1.1
    assert 0.5 * DECADES[0] < np.log10(units.max() / units.min()) < DECADES[1] + 0.1
    assert np.abs(raw.mean(0) / units).max() < AWAY + 0.2
    assert np.abs(np.corrcoef(raw[:, 0], x[:, 0])[0, 1]) > 0.999  # a unit changes no order


def test_some_tables_are_centred_and_some_are_not():
    x = np.random.default_rng(0).standard_normal((4000, 8))
    raws = [in_units(np.random.default_rng(seed), x) for seed in range(40)]
    away = [np.abs(raw.mean(0) / raw.std(0)).max() > 0.2 for raw in raws]
    assert 4 < sum(away) < 24
