"""How a feature is added: a row of the table, and the line that computes its quantity."""

import json
import math
import os
import shutil
import subprocess
import sys

import pytest

from lrpilot.features import NAMES
from repository import TOP

# Two features, one that changes from decision to decision and one that is constant in a run.
ROW = """\
    Feature("loss_slope_2", "loss", "loss {:.3g} times that of two intervals before", 7, log=True, source="loss_mean"),\
"""
LINE = '            "loss_slope_2": now / _known(self.losses[2], now),'
CONSTANT_ROW = '    Feature("probe_rise", "probe", "best level {:+.1f} decades over the steepest", 0.25, per_run=True),'
CONSTANT_LINE = '                "probe_rise": marks.lowest - marks.steepest,'
# File, beginning of the line before, new line.
ADDITIONS = (
    ("runtime/lrpilot/features.py", '    Feature("loss_slope_4", ', ROW),
    ("runtime/lrpilot/features.py", '    Feature("probe_noise", ', CONSTANT_ROW),
    ("runtime/lrpilot/observer.py", '            "loss_slope_4": ', LINE),
    ("runtime/lrpilot/observer.py", '                "probe_noise": ', CONSTANT_LINE),
)
NEEDED = ("runtime/lrpilot", "policy")
SCRIPT = """
import json
import numpy as np
from lrpilot import probe_curve
from lrpilot.explain import findings, say
from lrpilot.features import GROUPS, NAMES
from lrpilot.observer import Observer
from lrpilot.telemetry import INTERVAL
from pydantic import TypeAdapter
from policy.observations import BLIND, mask
from policy.settings import TrainConfig
from policy.store import CONSTANT, DECISION, LAYOUT, NOTHING, Masks, Store

observer = Observer(1, 100, is_sgd=False)
one = np.ones(1)
marks = probe_curve.Landmarks(one, one, one > 0, 0.5 * one, -1.5 * one, one, np.ones((1, 7)))
observer.add_probe(marks, np.ones((1, 7)), marks.blowup, one > 0)
for loss in (4.0, 10.0, 2.0, 40.0):
    interval = dict.fromkeys(INTERVAL, one) | {"loss_mean": loss * one}
    observer.add_interval(interval)
row = observer.observation(50, *np.zeros((4, 1)), interval=interval, interval_steps=10)
values = dict(zip(NAMES, row[0].tolist(), strict=True))
store = Store(
    np.tile(np.arange(len(DECISION), dtype=np.float32), (3, 1)), np.zeros(3), np.zeros(3),
    np.arange(len(DECISION), len(LAYOUT), dtype=np.float32)[None], np.array([0, 3]), np.array([1]),
)
view = store.masked(Masks(0.0, 0.0), 0)
view.variants[:] = 0  # hides nothing


def places(view):
    return dict(zip(NAMES, view.observations(*view.rows_of(np.array([0])))[0].astype(int).tolist()))


everything, loss, blind = (places(v) for v in (view, view.limited(("loss",)), view.limited(BLIND)))
new = ("loss_slope_2", "probe_rise")
named = TypeAdapter(TrainConfig).json_schema()["properties"]["features"]
print(json.dumps({
    "names": NAMES, "groups": list(GROUPS), "params": named["items"]["enum"],
    "values": [values[name] for name in new],
    "words": [say(name, values[name]) for name in new],
    "findings": [new[0] in findings(values, {}, 99), new[0] in findings(values, {"loss_mean": float("nan")}, 99)],
    "of": [next(group for group, names in GROUPS.items() if name in names) for name in new],
    "masks": [[bool(mask((group,))[NAMES.index(name)]) for group in ("loss", "probe", *BLIND)] for name in new],
    "constant": [name in CONSTANT for name in new],
    "places": [LAYOUT[everything[name]] for name in new],
    "limited": [loss[new[0]] == everything[new[0]], loss[new[1]] == NOTHING, blind[new[0]] == NOTHING],
    "distinct": len(set(everything.values())) == len(NAMES),
}))
"""


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a copy of the packages says of the new features, with these lines added and nothing else."""
    top = tmp_path_factory.mktemp("copy")
    for name in NEEDED:
        source, target = TOP / name, top / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "models", "behaviour"))
    for file, before, line in ADDITIONS:
        lines = (top / file).read_text().splitlines()
        (at,) = (i for i, text in enumerate(lines) if text.startswith(before))
        (top / file).write_text("\n".join([*lines[: at + 1], line, *lines[at + 1 :]]))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(top / "runtime"), str(top)))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=top, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_has_a_place_in_every_observation(derived: dict) -> None:
    after = {"loss_slope_2": "loss_slope_4", "probe_rise": "probe_noise"}
    names = list(NAMES)
    for name, before in after.items():
        names.insert(names.index(before) + 1, name)
    assert derived["names"] == names
    assert derived["values"] == pytest.approx([7 * math.log10(4), 0.5])


def test_it_is_explained_in_words(derived: dict) -> None:
    assert derived["words"] == [
        "loss 4 times that of two intervals before",
        "best level +2.0 decades over the steepest",
    ]
    assert derived["findings"] == [True, False]  # not where the loss is not known


def test_parameters_and_masks_name_it_by_its_group(derived: dict) -> None:
    assert derived["of"] == ["loss", "probe"]
    assert derived["params"] == derived["groups"] and set(derived["of"]) < set(derived["params"])
    assert derived["masks"] == [[True, False, False], [False, True, False]]


def test_the_store_has_a_column_for_it(derived: dict) -> None:
    assert derived["constant"] == [False, True]
    assert derived["places"] == [["loss_slope_2", 0], ["probe_rise", 0]]
    assert derived["limited"] == [True, True, True] and derived["distinct"]
