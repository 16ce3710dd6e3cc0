"""Fine-tuned encoders: figures by hand, which bars are missed, and the command line."""

from typing import Any

import pandas as pd
import pytest

from benchmarks import encoders
from benchmarks.encoders import FAMILIES, METHODS
from quick import quick

FLAT = {
    "policy.mean": 0.1, "policy.worst": 0.2, "policy_steps.mean": 0.4, "policy_steps.worst": 0.6,
    "default.mean": 0.7, "default.worst": 0.8,
}  # fmt: skip
GOOD: dict[str, Any] = {f"{name}.{key}": value for name in FAMILIES.values() for key, value in FLAT.items()}
GOOD |= {f"{name}.again": 0 for name in FAMILIES.values()} | {"seeds": 2, "policy": "f" * 64}


def test_figures_by_hand() -> None:
    kinds = {
        "policy": ("policy", (0.0, 0.2)), "policy_steps": ("policy", (0.2, 0.6)),
        "default": ("textbook", (0.6, 0.8)), "test_loss": ("oracle", (0.0, 0.0)),
    }  # fmt: skip
    rows = pd.DataFrame([
        {"seed": seed, "kind": kind, "method": method, "regret": regret}
        for method, (kind, regrets) in kinds.items() for seed, regret in enumerate(regrets)
    ])  # fmt: skip
    assert encoders.figures("a", rows) == pytest.approx({f"a.{key}": value for key, value in FLAT.items()})


def test_bars() -> None:
    name = FAMILIES["heldout"]
    assert not [*encoders.missed(GOOD)]
    bad = GOOD | {f"{name}.policy.worst": 0.31, f"{name}.again": 1, f"{name}.default.worst": 1.0}
    assert [*encoders.missed(bad)] == [
        f"{name}: a run has regret 0.310, want at most 0.3",
        f"{name}: 1 of 2 runs are sent back to earlier weights, want none",
    ]


def test_table() -> None:
    head, _, *rows = encoders.render(GOOD).splitlines()
    assert all(name in head for name in METHODS.values())
    assert rows[0] == f"| `{FAMILIES['train']}` | train | 0.100; 0.200 | 0.400; 0.600 | 0.700; 0.800 | 0 |"
    assert rows[-1].endswith("Policy `ffffffffffff`.")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    _, out = quick("benchmarks.encoders", tmp_path_factory.mktemp("encoders"))
    return out


def test_every_split_has_figures(figures: dict[str, Any]) -> None:
    assert figures["quick"] and figures["seeds"] == 2
    assert {f"{name}.{key}" for name in FAMILIES.values() for key in [*FLAT, "again"]} < figures.keys()
    assert all(0 <= figures[f"{name}.policy.worst"] <= 1 for name in FAMILIES.values())
