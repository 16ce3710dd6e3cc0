"""The scripts behind the pictures run, and every picture of the documentation is small and described."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lrpilot.reports.history import METRICS
from repository import TOP

IMAGES = TOP / "docs/images"
MOST_BYTES = 300_000
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]


def test_first_training_draws_what_it_trained(tmp_path: Path) -> None:
    picture, results = tmp_path / "new" / "picture.png", tmp_path / "results.json"
    script = [sys.executable, str(TOP / "examples/first_training.py"), "--epochs", "1", "--seeds", "1"]
    done = subprocess.run(
        [*script, "--picture", str(picture), "--results", str(results)], check=True, capture_output=True, text=True
    )
    *schedules, written = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in schedules] == [
        "cosine from 0.0001", "cosine from 0.001", "cosine from 0.01", "PilotLR",
    ]  # fmt: skip
    assert all(re.fullmatch(r"[\w. ]+: loss \d\.\d{3}; accuracy [\d.]+%", line) for line in schedules)
    (run,) = json.loads(results.read_text())["PilotLR"]
    assert f"PilotLR: loss {run['losses'][-1]:.3f}; accuracy {run['accuracy']:.1%}" == schedules[-1]
    width, height = Image.open(picture).size
    assert written == str(picture) and width == 2 * height


def test_logged_digits_logs_the_same_everywhere(tmp_path: Path) -> None:
    # In a process of its own: MLflow keeps the experiment that a script sets for all later tests of this one.
    subprocess.run([sys.executable, str(TOP / "examples/logged_digits.py")], cwd=tmp_path, check=True)
    board = EventAccumulator(str(tmp_path / "runs/digits"), size_guidance={"scalars": 0})
    board.Reload()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs(["1"])
    names = {*METRICS} - {"lrpilot/val_loss"}
    assert {*board.Tags()["scalars"]} == {*run.data.metrics} == names
    for name in names:
        points = {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
        assert points and {event.step: event.value for event in board.Scalars(name)} == pytest.approx(points, rel=1e-5)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_of_a_page_are_there(page: Path) -> None:
    for text, path in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not path.startswith("http"):
            assert text and (page.parent / path).is_file(), path


@pytest.mark.parametrize("path", sorted(IMAGES.iterdir()), ids=lambda path: path.name)
def test_pictures_are_small_and_used(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    assert any(path.name in page.read_text(encoding="utf-8") for page in PAGES)
