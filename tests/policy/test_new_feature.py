"""How a feature is added: a row of the table, and the line that computes its quantity. Older policies go on working."""

import json
import math

import numpy as np
import pytest

import copies
from golden_training import uninterrupted
from lrpilot.decisions.features import CLIP, NAMES

# Two features, one that changes from decision to decision and one that is constant in a run.
ROW = """\
    Feature("loss_slope_2", "loss", "loss {:.3g} times that of two intervals before", 7, log=True, source="loss_mean"),\
"""
LINE = '            "loss_slope_2": now / _known(self.losses[2], now),'
CONSTANT_ROW = '    Feature("probe_rise", "probe", "best level {:+.1f} decades over the steepest", 0.25, per_run=True),'
CONSTANT_LINE = '                "probe_rise": marks.lowest - marks.steepest,'
# File, beginning of the line before, new line.
ADDITIONS = (
    ("runtime/lrpilot/decisions/features.py", '    Feature("loss_slope_4", ', ROW),
    ("runtime/lrpilot/decisions/features.py", '    Feature("probe_noise", ', CONSTANT_ROW),
    ("runtime/lrpilot/decisions/observer.py", '            "loss_slope_4": ', LINE),
    ("runtime/lrpilot/decisions/observer.py", '                "probe_noise": ', CONSTANT_LINE),
)
SCRIPT = """
import json
import sys
from pathlib import Path
import numpy as np
from golden_training import uninterrupted
from lrpilot import load_policy
from lrpilot.decisions.features import GROUPS, NAMES
from lrpilot.decisions.observer import Observer
from lrpilot.decisions.telemetry import INTERVAL
from lrpilot.probing import probe_curve
from lrpilot.reports.explain import findings, say
from pipeline import collect
from pydantic import TypeAdapter
from pipeline.config import load
from policy.settings import TrainConfig
from policy import trajectories
from policy.observations import BLIND, TaskRecording, mask, observations
from policy.store import CONSTANT, DECISION, LAYOUT, NOTHING, Masks, Store, build
from tiny import write_params

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


def shown(store):
    view = store.masked(Masks(0.0, 0.0), 0)
    view.variants[:] = 0  # hides nothing
    return view


def places(view):
    return dict(zip(NAMES, view.observations(*view.rows_of(np.array([0])))[0].astype(int).tolist()))


view = shown(store)
everything, loss, blind = (places(v) for v in (view, view.limited(("loss",)), view.limited(BLIND)))
new = ("loss_slope_2", "probe_rise")

root, shipped = Path("tiny"), load_policy("default")
follows = {"schedules": {"policy": 1.0}, "behaviour_policies": [str(shipped.path)]}
write_params(root, families={"spirals": 1.0}, tasks=1, runs_per_task=2, no_probe_share=0.0, **follows)
sys.argv = ["collect", "--root", str(root)]
collect.main()
(file,) = trajectories.files(root / "data/trajectories")
task = TaskRecording(trajectories.read(file))
observed = observations(task, np.ones((task.length, task.runs), bool))[: task.ends[0], 0]
build([file], load(root).reward, root)
kept = shown(Store.open(root))
losses = task.column("train_loss")[: task.ends[0], 0]
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
    "policy": [name in shipped.manifest.features for name in new],
    "training": uninterrupted("plain"),
    "losses": losses.tolist(),
    "recorded": {name: observed[:, NAMES.index(name)].tolist() for name in new},
    "stored": np.array_equal(kept.observations(*kept.rows_of(np.array([0]))), observed),
}))
"""


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a copy of the packages says of the new features, with these lines added and nothing else."""
    top = copies.with_lines(tmp_path_factory.mktemp("copy"), ADDITIONS)
    return json.loads(copies.run(top, "-c", SCRIPT).splitlines()[-1])


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


def test_the_shipped_policy_goes_on_as_before(derived: dict) -> None:
    """It observes what it was trained on, and decides the same."""
    here = json.loads(json.dumps(uninterrupted("plain")))
    assert derived["policy"] == [False, False]
    for name in ("decisions", "rates", "warnings"):
        assert derived["training"][name] == here[name]
    assert derived["training"]["bits"]["weights"] == here["bits"]["weights"]
    assert derived["training"]["bits"]["decisions"] != here["bits"]["decisions"]  # which have the new features


def test_a_collection_observes_it(derived: dict) -> None:
    """Runs that follow the shipped policy; observations are worked out anew from what they recorded."""
    losses = np.array(derived["losses"])
    slopes = np.clip(7 * np.log10(losses[3:] / losses[1:-2]), -CLIP, CLIP)
    assert derived["recorded"]["loss_slope_2"][:3] == [0.0, 0.0, 0.0] and len(slopes) > 20
    np.testing.assert_allclose(derived["recorded"]["loss_slope_2"][3:], slopes, atol=1e-6)
    (rise,) = set(derived["recorded"]["probe_rise"])
    assert rise != 0.0 and derived["stored"]
