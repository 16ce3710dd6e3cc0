"""Where the numbers of a decision can go: the real MLflow and TensorBoard, a file, several of them."""

import math
import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest

from lrpilot.integrations import loggers
from lrpilot.reports.history import METRICS, History
from recorded_training import training

pytestmark = pytest.mark.filterwarnings("ignore:PilotLR. step.. got no loss")
Row = dict[str, float]


@pytest.fixture(scope="module")
def history() -> History:
    return training()[0].history


def tell(log: loggers.Log, history: History) -> None:
    for decision in history:
        log(decision.metrics(), decision.step)


def curve(history: History, name: str) -> dict[int, float]:
    return {d.step: d.metrics()[name] for d in history if name in d.metrics()}


def test_the_training_has_something_to_tell(history: History) -> None:
    assert {name for d in history for name in d.metrics()} == {*METRICS} - {"lrpilot/val_loss"}
    assert 0 < sum(curve(history, "lrpilot/guard").values()) < len(history)


def test_mlflow_takes_them_as_they_are(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the active run, and with `run_id` in any other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI", ""))  # set_tracking_uri writes it
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        client = mlflow.MlflowClient()
        other = client.create_run("0").info.run_id
        with mlflow.start_run() as run:
            tell(mlflow.log_metrics, history)
            tell(partial(mlflow.log_metrics, run_id=other), history[:2])
        for run_id, decisions in ((run.info.run_id, history), (other, history[:2])):
            for name in METRICS:
                stored = {m.step: m.value for m in client.get_metric_history(run_id, name)}
                assert stored == pytest.approx(curve(decisions, name))
    finally:
        mlflow.set_tracking_uri(before)


def test_tensorboard(history: History, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="torch.utils.tensorboard needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path))
    tell(loggers.tensorboard(writer), history)
    # Read while the writer is open: what was logged must be on disk by now.
    read = EventAccumulator(str(tmp_path)).Reload()
    for name in read.Tags()["scalars"]:
        assert {e.step: e.value for e in read.Scalars(name)} == pytest.approx(curve(history, name), rel=1e-6)
    assert set(read.Tags()["scalars"]) == {*METRICS} - {"lrpilot/val_loss"}
    writer.close()


# csv


def test_csv_has_a_row_per_decision_at_once(history: History, tmp_path: Path) -> None:
    file = tmp_path / "pilot.csv"
    log = loggers.csv(file)
    for at, decision in enumerate(history):
        log(decision.metrics(), decision.step)
        assert len(pandas.read_csv(file)) == at + 1
    read = pandas.read_csv(file)
    assert list(read.columns) == ["step", *METRICS]
    for name in METRICS:
        want = [d.metrics().get(name, math.nan) for d in history]
        np.testing.assert_array_equal(read[name].astype(float), want)


def test_csv_is_continued_by_a_resumed_training(history: History, tmp_path: Path) -> None:
    whole, file = tmp_path / "whole.csv", tmp_path / "pilot.csv"
    tell(loggers.csv(whole), history)
    tell(loggers.csv(file), history[:9])
    with file.open("a") as opened:
        opened.write("17,0.0")  # killed in the middle of a row
    tell(loggers.csv(file), history[6:])  # the checkpoint was older
    step = [str(d.step) for d in history]
    lines = file.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", *step[:9], "17", *step[6:]]
    assert lines[-len(history[6:]) :] == whole.read_text().splitlines()[7:]


def test_csv_of_other_columns_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("epoch,loss\n1,2\n")
    with pytest.raises(ValueError, match=r"mine\.csv: its first line is not .* give another path"):
        loggers.csv(file)
    assert file.read_text() == "epoch,loss\n1,2\n"
    with pytest.raises(OSError, match="nowhere"):
        loggers.csv(tmp_path / "nowhere" / "pilot.csv")


# several


def test_several_tell_all_even_if_one_fails() -> None:
    calls: list[tuple[str, Row, int]] = []

    def full(metrics: Row, step: int) -> None:
        raise OSError("disk full")

    log = loggers.several(lambda m, s: calls.append(("a", m, s)), full, lambda m, s: calls.append(("b", m, s)))
    with pytest.raises(ExceptionGroup, match="disk full"):
        log({"lrpilot/lr": 1.0}, 5)
    assert calls == [("a", {"lrpilot/lr": 1.0}, 5), ("b", {"lrpilot/lr": 1.0}, 5)]
    loggers.several()({}, 1)  # nobody to tell
