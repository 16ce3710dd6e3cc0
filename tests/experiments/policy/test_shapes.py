"""Copies of the shipped policy in other shapes, means by hand, and one task from end to end."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.policy.shapes import PLAIN, SHAPES, by_task, copies, means, named, render
from lrpilot import load_policy
from pipeline.paths import DEFAULT_MODEL
from quick import quick


def test_copies_differ_in_their_shape_alone() -> None:
    shipped = load_policy("default").manifest
    with copies(DEFAULT_MODEL / "policy.onnx") as files:
        assert list(files) == [named(*shape) for shape in SHAPES]
        for (warm_up, decay), file in zip(SHAPES, files.values(), strict=True):
            manifest = load_policy(file).manifest
            action = replace(shipped.protocol.action, warm_up=warm_up, decay=decay)
            assert manifest == replace(shipped, protocol=replace(shipped.protocol, action=action))
    assert not any(Path(file).exists() for file in files.values())


def test_the_shipped_shape_is_among_them() -> None:
    action = load_policy("default").protocol.action
    assert (action.warm_up, action.decay) in SHAPES and PLAIN in SHAPES


def test_means_by_hand() -> None:
    rows = pd.DataFrame(
        [
            {"task": task, "regime": regime, "seed": seed, "shape": "s", "method": "policy", "regret": regret}
            for task, regime, regrets in (
                ("a", "ordinary", (0.1, 0.3)), ("b", "ordinary", (0.4, 0.4)), ("c", "odd", (0.5, 0.9)),
            )
            for seed, regret in enumerate(regrets)
        ]
    )  # fmt: skip
    tasks, table = by_task(rows, "s")
    assert tasks == ["a", "b", "c"]
    np.testing.assert_array_equal(table, [[0.1, 0.3], [0.4, 0.4], [0.5, 0.9]])
    wanted = {"all": 0.6 * 0.3 + 0.4 * 0.7, "ordinary": 0.3, "odd": 0.7}
    assert means(rows, {"ordinary": 0.6, "odd": 0.4}) == pytest.approx(
        {f"{group}.s.policy": value for group, value in wanted.items()}
    )


def test_a_task_from_end_to_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    _, out = quick("experiments.policy.shapes", tmp_path_factory.mktemp("shapes"))
    figures: dict[str, Any] = out
    assert figures["quick"] and figures["tasks"] == 1
    assert figures[f"{named(*PLAIN)}.minus"] == 0.0
    assert len([line for line in render(figures).splitlines() if line.startswith("|")]) == 2 + len(SHAPES)
