"""What a first guess changes: figures by hand, which bars are missed, and its own command line."""

from typing import Any

import pandas as pd
import pytest

from benchmarks import guesses
from benchmarks.guesses import NEAR, OFF
from quick import quick


def rows() -> pd.DataFrame:
    """Two tasks and two seeds: a guess costs a tenth of the decades that it is off, a cosine .2 and twice as much."""
    tasks = {"a": 0.1, "b": 0.3}
    kinds: dict[tuple[str, str], float] = {("policy", "none"): 0.05, ("oracle", "test_loss"): 0.0}
    kinds |= {("policy", f"guess.{off:g}"): abs(off) / 10 for off in OFF}
    kinds |= {("baseline", f"cosine.{off:g}"): 0.2 + abs(off) / 5 for off in NEAR}
    return pd.DataFrame([
        {"task": task, "seed": seed, "kind": kind, "method": name, "regret": base + cost + seed}
        for task, base in tasks.items() for seed in (0, 1) for (kind, name), cost in kinds.items()
    ])  # fmt: skip


def test_figures_by_hand() -> None:
    flat = guesses.figures("heldout", rows(), 50)
    assert flat["heldout.tasks"] == 2 and flat["heldout.none.mean"] == pytest.approx(0.75)
    assert flat["heldout.guess.0.5.mean"] == pytest.approx(0.75)
    assert [flat[f"heldout.guess.{off:g}.gap"] for off in OFF] == pytest.approx([abs(off) / 10 - 0.05 for off in OFF])
    assert flat["heldout.guess.0.5.ahead"] == pytest.approx(-0.25) == flat["heldout.guess.0.5.ahead_high"]
    table = guesses.render(flat | {k.replace("heldout", "selection"): v for k, v in flat.items()} | {
        "seeds": 2, "policy": "f" * 64
    })  # fmt: skip
    assert "| -0.5 decades |" in table and "heldout 2" in table


def test_bars() -> None:
    flat = guesses.figures("heldout", rows(), 50)
    assert [line.partition(":")[0] for line in guesses.missed(flat)] == [
        "a right guess", "-2 decades off", "-1 decades off", "+1 decades off", "+2 decades off",
    ]  # fmt: skip
    good = {key: -0.1 if isinstance(value, float) else value for key, value in flat.items()}
    assert not [*guesses.missed(good)]
    late = good | {"heldout.guess.0.ahead_high": 0.021}
    assert [*guesses.missed(late)] == ["+0 decades off: up to +0.021 beside the cosine, want at most +0.02"]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    _, out = quick("benchmarks.guesses", tmp_path_factory.mktemp("guesses"))
    return out


def test_figures_of_both_splits(figures: dict[str, Any]) -> None:
    assert figures["quick"] and figures["selection.tasks"] == figures["heldout.tasks"] == 1
    assert {f"heldout.guess.{off:g}.gap_low" for off in OFF} < figures.keys()
    assert f"Policy `{figures['policy'][:12]}`" in guesses.render(figures)
