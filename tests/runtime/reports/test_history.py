"""Decisions and their history: what they say, and that they say what was done."""

import io
import math
import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot.decisions import guard
from lrpilot.decisions.features import BY_NAME, CLIP, FEATURES, NAMES
from lrpilot.decisions.observer import Observer
from lrpilot.decisions.telemetry import INTERVAL
from lrpilot.decisions.warm_up import WarmUp
from lrpilot.reports.explain import EVENTS, findings, say
from lrpilot.reports.history import METRICS, Decision, History
from recorded_training import STEPS, training

pytestmark = pytest.mark.filterwarnings("ignore:PilotLR. step.. got no loss")
PLAIN = Decision(
    7, 1e-3, 5e-4, 0.25, 0.25, -0.3, math.nan, None, {"progress": 0.0, "loss_slope": -1.0}, {"loss_mean": 2.0}
)

values = st.floats(allow_nan=True, allow_infinity=True)
decisions = st.builds(
    Decision,
    step=st.integers(0, 10**9), lr_before=values, lr=values, action=values, applied=values, level=st.floats(-4, 3),
    confidence=st.just(math.nan) | st.floats(0, 1), event=st.sampled_from([None, *EVENTS]),
    observation=st.dictionaries(st.sampled_from(NAMES), st.floats(-CLIP, CLIP), max_size=8),
    telemetry=st.dictionaries(st.sampled_from(INTERVAL), values),
)  # fmt: skip


@pytest.mark.parametrize("probe", [True, False])
def test_a_decision_names_the_rates_around_it(probe: bool) -> None:
    scheduler, used = training(probe)
    assert (scheduler.history[0].step > 0) == probe
    first, equation = scheduler.history[0].step, scheduler.pilot.protocol.action
    warm_up, envelope = WarmUp(1, equation.warm_up, STEPS), equation.envelope
    warm_up.start(np.ones(1, bool), first, STEPS)
    assert used[first] < 0.1 * scheduler.history[0].lr
    for decision in scheduler.history:
        assert decision.lr * warm_up.factor(decision.step) == used[decision.step]
    for decision in scheduler.history[1:]:
        fallen = envelope(decision.step, STEPS) / envelope(decision.step - 1, STEPS)
        used_before = used[decision.step - 1] / warm_up.factor(decision.step - 1)
        assert decision.lr_before == pytest.approx(used_before * fallen)


def test_answers_and_what_the_guard_made_of_them() -> None:
    history = training()[0].history
    assert {d.event for d in history} > {None, "loss_missing", "loss_nonfinite"}
    first, *later = history
    assert first.confidence < 1 and first.applied != first.action  # caution
    assert all(d.applied == d.action for d in later if d.event is None)
    assert any(d.applied != d.action for d in later)
    assert all(math.isnan(d.confidence) for d in later) and math.isnan(training(False)[0].history[0].confidence)


# in words


def test_every_event_has_words() -> None:
    assert list(EVENTS) == re.findall(r"^ {4}(\w+)  ", guard.__doc__ or "", re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("level", -0.6, "level -1.20 decades over the reference"),
        ("last_move", 0.5, "the last decision moved the level by +0.25 decades"),
        ("since_best", 0.3, "decisions since the best interval: 3"),
        ("loss_slope_4", 5.0, "loss 10 times that of four intervals before, or beyond"),
        ("loss_slope_4", -5.0, "loss 0.1 times that of four intervals before, or beyond"),
        ("loss_slope_4", 4.999, "loss 10 times that of four intervals before"),
        ("update_ratio", -0.5, "a step moves the weights by 1.0e-04 of their norm"),
        ("probe_loss_-0.5", -3.0, "loss 0.1 times the first, -0.5 from blow-up"),
        ("probe_grad_0", 2.0, "gradient 100 times the first, +0 from blow-up"),
        ("progress", 0.5, ""),
        ("of another version", 5.0, ""),
    ],
)
def test_a_feature_in_words(name: str, value: float, words: str) -> None:
    assert say(name, value) == words


def test_facts_are_in_no_explanation() -> None:
    assert {feature.name for feature in FEATURES if feature.sentence is None} == {
        "progress", "log_progress", "first", "interval", "log_steps", "is_sgd", "has_epochs", "log_epochs",
        "has_examples", "log_examples", "has_val", "probed", "probe_blown", "has_size", "log_fan_in", "log_matrices",
        "log_weights", "log_scale",
    }  # fmt: skip


LATER = {name: 1.0 + i / 100 for i, name in enumerate(NAMES)} | {"first": 0.0}
SOURCES = {
    "loss_mean": {"loss_total", "loss_last", "loss_slope", "loss_slope_4", "loss_to_best", "loss_noise"},
    "grad_norm": {"grad_norm", "grad_cos"},
    "update_norm": {"update_ratio", "update_cos"},
    "weight_norm": {"weight_norm"},
    "val_loss": set(),  # the one observed last stands
}


def test_findings_are_the_largest_of_their_time() -> None:
    later = [name for name in NAMES[::-1] if BY_NAME[name].sentence and not BY_NAME[name].per_run]
    assert findings(LATER, {}, 99) == later
    assert findings(LATER, {}, 6) == later[:6]
    assert findings(LATER | {"level": -9.0, "last_move": 0.0}, {}, 99)[0] == "level"
    assert "last_move" not in findings(LATER | {"last_move": 0.0}, {}, 99)
    first = findings(LATER | {"first": 1.0}, {}, 99)
    assert first == [name for name in NAMES[::-1] if BY_NAME[name].sentence and BY_NAME[name].per_run]
    assert findings({"of another version": 1.0}, {}, 99) == ["of another version"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_stand_in_is_no_finding(source: str) -> None:
    sound = findings(LATER, dict.fromkeys(INTERVAL, 1.0), 99)
    lost = findings(LATER, dict.fromkeys(INTERVAL, 1.0) | {source: math.nan}, 99)
    assert lost == [name for name in sound if name not in SOURCES[source]]


def test_words_give_back_what_the_features_were_made_from() -> None:
    observer = Observer(1, 1000, is_sgd=False)
    before = dict.fromkeys(INTERVAL, np.array([1.0]))
    observer.add_interval(before | {"loss_mean": np.array([4.0])})
    now = before | {k: np.array([v]) for k, v in {
        "loss_mean": 3.0, "loss_last": 2.7, "loss_noise": 0.6, "grad_norm": 0.5, "grad_cos": 0.25, "update_norm": 1e-3,
        "update_cos": -0.5, "weight_norm": 2.0, "val_loss": 1.2,
    }.items()}  # fmt: skip
    observer.add_interval(now)
    level, anchor, highest, move = np.array([[-1.2], [-0.5], [-0.2], [-0.25]])
    row = dict(zip(NAMES, observer.observation(100, level, anchor, highest, move, now, 20)[0], strict=True))
    want = {
        "level": -1.2, "level_to_anchor": -0.7, "level_to_highest": -1.0, "last_move": -0.25,
        "loss_total": 0.75, "loss_last": 0.9, "loss_slope": 0.75, "loss_to_best": 1.0, "loss_noise": 0.2,
        "grad_norm": 0.5, "grad_cos": 0.25, "update_ratio": 5e-4, "update_cos": -0.5, "weight_norm": 2.0,
        "val_total": 1.2, "val_slope": 1.2, "val_to_best": 1.2, "val_gap": 0.4,
    }  # fmt: skip
    assert {name: BY_NAME[name].quantity(row[name]) for name in want} == pytest.approx(want, rel=1e-5)


def test_explain() -> None:
    hurt = replace(PLAIN, action=math.nan, applied=-0.5, event="action_nonfinite")
    assert hurt.explain().splitlines() == [
        "decision after 7 steps, 50% of the training",
        "  saw      loss_slope         -1.00  loss 0.794 times that of the interval before",
        "  answered +nan, of -1 to 1",
        "  did      learning rate from 0.001 to 0.0005",
        "           level -0.30 decades over the reference",
        "  guard    action_nonfinite: the policy answered nan or inf; the built-in schedule answers",
        "           applied -0.5 in place of the answer",
    ]
    doubtful = replace(PLAIN, confidence=0.254).explain().splitlines()
    assert doubtful[2] == "  doubted  the probe saw much noise: confidence 0.25, of 0 to 1"
    assert replace(PLAIN, confidence=1.0).explain() == PLAIN.explain()
    # A guard may find the answer low enough.
    assert replace(PLAIN, event="loss_rise").explain().splitlines()[-1].startswith("  guard    loss_rise: the loss has")


def test_explain_tells_of_the_probe_first_and_of_the_training_later() -> None:
    first, *later = training()[0].history
    assert "blow-up" in first.explain() and "loss_slope" not in first.explain()
    assert not any("blow-up" in d.explain() for d in later)
    assert "saw      nothing" in training(False)[0].history[0].explain()
    # Stand-ins for a loss that was not reported are no findings.
    missing = next(d for d in later if d.event == "loss_missing").explain()
    assert (
        "missed   not finite or not measured: loss_mean, loss_last, loss_noise" in missing
        and "loss_slope" not in missing
    )


@given(decision=decisions, bound=st.sampled_from([-CLIP, CLIP]))
@settings(max_examples=60, deadline=None)
def test_explain_is_narrow_and_never_fails(decision: Decision, bound: float) -> None:
    lines = decision.explain().splitlines()
    lines += replace(decision, observation=dict.fromkeys(decision.observation, bound)).explain().splitlines()
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_each_feature_is_explained_in_a_line(name: str) -> None:
    assert all(len(f"  saw      {name:<17} {bound:+6.2f}  {say(name, bound)}") <= 100 for bound in (-CLIP, CLIP))


@given(decision=decisions)
@settings(max_examples=60, deadline=None)
def test_metrics_are_finite_numbers_of_known_names(decision: Decision) -> None:
    metrics = decision.metrics()
    assert set(metrics) <= set(METRICS) and all(type(v) is float and math.isfinite(v) for v in metrics.values())
    assert metrics["lrpilot/guard"] == (decision.event not in (None, "recovery", "unearned"))


def test_metrics() -> None:
    telemetry = {"loss_mean": 2.0, "val_loss": math.nan, "grad_norm": 3.0, "update_norm": 0.5, "weight_norm": 10.0}
    assert replace(PLAIN, telemetry=telemetry).metrics() == {
        "lrpilot/lr": 5e-4, "lrpilot/level": -0.3, "lrpilot/action": 0.25, "lrpilot/guard": 0.0, "lrpilot/loss": 2.0,
        "lrpilot/grad_norm": 3.0, "lrpilot/update_ratio": 0.05, "lrpilot/probe": 0.0,
    }  # fmt: skip


# the sequence


def test_a_history_is_a_sequence() -> None:
    history = training()[0].history
    assert list(history)[3] is history[3] and history[-1].step == max(d.step for d in history)
    assert isinstance(history[2:5], History) and history[2:5] == History(list(history)[2:5]) != history
    assert history[0] in history and history.index(history[4]) == 4
    assert History() == History([]) and not History()


@pytest.mark.parametrize(("field", "value"), [("step", 8), ("lr", math.nan), ("event", "x"), ("telemetry", {})])
def test_equality_sees_every_field(field: str, value: object) -> None:
    assert replace(PLAIN, **{field: value}) != PLAIN == replace(PLAIN)


def test_array_and_frame_have_a_row_per_decision() -> None:
    history = training()[0].history
    array, frame = history.array(), history.frame()
    assert array.shape == (len(history),) and list(array.dtype.names) == list(frame.columns)
    assert array["step"].tolist() == frame["step"].tolist() == [d.step for d in history]
    assert array["event"].tolist() == [d.event or "" for d in history]
    assert frame["event"].notna().tolist() == [d.event is not None for d in history]
    for name in ("observation_loss_slope", "telemetry_loss_mean", "lr_before"):
        np.testing.assert_array_equal(array[name], frame[name])
    assert math.isnan(array["telemetry_loss_mean"][0]) and array["telemetry_grad_norm"][1] > 0
    assert set(History().array().dtype.names) == set(History().frame().columns) < set(array.dtype.names)


def test_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        History([PLAIN]).frame()


@given(st.lists(decisions, max_size=4))
@settings(max_examples=60, deadline=None)
def test_state_survives_a_checkpoint_exactly(made: list[Decision]) -> None:
    file = io.BytesIO()
    torch.save(History(made).state(), file)
    file.seek(0)
    assert History.from_state(torch.load(file, weights_only=True)) == History(made)


def test_state_of_another_version_is_refused() -> None:
    state = History([PLAIN, PLAIN]).state()
    del state[1]["applied"]
    with pytest.raises(ValueError, match=r"history, decision 1: unknown or missing fields \['applied'\]"):
        History.from_state(state)


def test_repr_is_a_short_table() -> None:
    assert repr(History([PLAIN, replace(PLAIN, step=9, event="loss_missing")])).splitlines() == [
        "2 decisions, 1 with a guard event",
        "     step        lr  level  event",
        "        7  5.00e-04  -0.30",
        "        9  5.00e-04  -0.30  loss_missing",
    ]
    for event, words in (("recovery", "recovery: after a cut"), ("unearned", "unearned: no high level before")):
        routine = replace(PLAIN, event=event)
        assert repr(History([PLAIN, routine])).startswith("2 decisions, 0 with a guard event")
        assert words in routine.explain()
    assert repr(History([PLAIN])).startswith("1 decision, 0 with a guard event")
    assert repr(History()) == "0 decisions, 0 with a guard event"


def eventful(events: dict[int, str]) -> History:
    """44 decisions, some of them with an event."""
    return History(replace(PLAIN, step=i, event=events.get(i)) for i in range(44))


LATEST = [*map(str, range(33, 44))]


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ({}, ["0", "...", *LATEST]),
        ({5: "loss_rise", 20: "loss_runaway"}, ["0", "...", "5 loss_rise", "...", "20 loss_runaway", "...", *LATEST]),
        ({2: "loss_rise"}, ["0", "1", "2 loss_rise", "...", *LATEST]),  # where one is left out, dots are no shorter
        ({31: "loss_rise"}, ["0", "...", "31 loss_rise", "32", *LATEST]),
        ({5: "recovery", 9: "unearned"}, ["0", "...", *LATEST]),
        ({4: "loss_rise", 5: "loss_rise"}, ["0", "...", "4 loss_rise", "5 loss_rise", "...", *LATEST]),
        ({4: "loss_rise", 5: "loss_runaway"}, ["0", "...", "4 loss_rise", "5 loss_runaway", "...", *LATEST]),
        (
            dict.fromkeys(range(4, 10), "loss_rise"),
            ["0", "...", "4 loss_rise", "... 4 more of loss_rise", "9 loss_rise", "...", *LATEST],
        ),
        (
            dict.fromkeys(range(1, 44), "loss_missing"),
            ["0", "1 loss_missing", "... 31 more of loss_missing", *(f"{step} loss_missing" for step in LATEST)],
        ),
    ],
)
def test_a_table_hides_no_guard_event(events: dict[int, str], shown: list[str]) -> None:
    rows = [line.split() for line in repr(eventful(events)).splitlines()[2:]]
    assert [" ".join(row[:1] + row[1 if row[0] == "..." else 3 :]) for row in rows] == shown


def test_a_notebook_shows_the_same_table() -> None:
    history = eventful({5: "loss_rise", 20: "<b>", 21: "<b>", 22: "<b>", 23: "<b>"})
    title, *rows = repr(history).splitlines()
    shown = history._repr_html_()
    root = ElementTree.fromstring(shown)
    assert root.findtext("caption") == title
    cells = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    assert [" ".join(filter(None, row)) for row in cells] == [" ".join(row.split()) for row in rows]
    assert [strong.text for strong in root.iter("strong")] == ["loss_rise", "<b>", "<b>"]
    assert "color" not in shown  # the page's own, light or dark
    assert History()._repr_html_() == "<div>0 decisions, 0 with a guard event</div>"


def test_a_decision_after_one_step() -> None:
    assert replace(PLAIN, step=1).explain().startswith("decision after 1 step, ")
