"""A recorded task says what kind of training it is."""

from copy import deepcopy
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import nn

from pipeline.simulation.recording import Spec, record
from pipeline.workloads.base import Family
from pipeline.workloads.recorded import families
from tiny import world

SCHEDULES = (("constant", 1.0), ("linear", 1.0))
SETTINGS = ("weights", "batch_norm", "dropout", "clipped")
PLAIN = (nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


@pytest.mark.parametrize(
    ("model", "settings", "recorded"),
    [  # weights: 6 x 12 + 12 + 12 x 3 + 3
        (nn.Sequential(*PLAIN), {}, (123, False, False, False)),
        (nn.Sequential(*PLAIN, nn.Dropout(0.0)), {"clip": 1.0}, (123, False, False, True)),
    ],
)
def test_a_task_says_its_settings(
    model: nn.Module, settings: dict[str, float], recorded: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = recorded_columns(model, settings, monkeypatch)
    assert columns == {
        "family": "tiny", "regime": "odd", "optimizer": "adam", "n_steps": 70, "examples": 192, "batch_size": 16,
        **dict(zip(SETTINGS, recorded, strict=True)),
    }  # fmt: skip


def recorded_columns(model: nn.Module, settings: dict[str, float], patch: pytest.MonkeyPatch) -> dict[str, object]:
    """The columns that have one value for the whole task, of two runs of `model` on a small world."""
    workload = replace(world(n_steps=70), build=lambda: deepcopy(model), **settings)
    patch.setitem(families.FAMILIES, "tiny", Family("tiny", "train", lambda rng: workload, "odd"))
    spec = Spec("tiny", 3, 2, True, SCHEDULES, (), (0.3, 0.9), None, 32, "cpu", "by hand")
    table = pq.read_table(pa.BufferReader(record(spec)))
    same = ("family", "regime", "optimizer", "n_steps", "examples", "batch_size", *SETTINGS)
    columns = {name: table[name].unique().to_pylist() for name in same}
    assert all(len(values) == 1 for values in columns.values())
    return {name: values[0] for name, values in columns.items()}
