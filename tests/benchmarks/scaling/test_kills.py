"""The study of kills sees what goes on, what does not, and what ends otherwise. The pipeline is small, its DVC real."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scaling import kills
from repository import TOP

MAKEFILE = """
repro:
	{first}
	PATH="$(CURDIR)/.venv/bin:$$PATH" DVC_NO_ANALYTICS=1 DVC_SYSTEM_CONFIG_DIR=.dvc/profile dvc repro {root}/dvc.yaml
"""
STAGES = """
stages:
  collect:
    wdir: ../..
    cmd: mkdir -p {root}/data/trajectories/a {root}/metrics && echo x > {root}/data/trajectories/a/1.parquet &&
      date > {root}/metrics/collect.json
    outs: [{root}/data/trajectories, {root}/metrics/collect.json]
  train:
    wdir: ../..
    cmd: echo y > {root}/metrics/train.json
    deps: [{root}/data/trajectories]
    outs: [{root}/metrics/train.json]
"""
OUTS = {"profiles/tiny/data/trajectories": "d", "profiles/tiny/metrics/train.json": "m"}
KEYS = {
    "kills", "every_s", *kills.PHASES, "went_on", "stopped", "completed", "outs", "differing", "quick", "processor",
}  # fmt: skip


def source(folder: Path, first: str) -> Path:
    """A clone of a small repository, whose `make repro` begins with the command `first`."""
    shutil.copytree(TOP / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache"))
    (folder / kills.ROOT).mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE.format(root=kills.ROOT, first=first))
    for place in (folder, folder / kills.ROOT):
        (place / "dvc.yaml").write_text(STAGES.format(root=kills.ROOT))
    kills.commit(folder)
    return folder


@pytest.mark.parametrize(
    ("first", "went_on"),
    [("test -e once || { touch once; sleep 600; }", True), ("test ! -e once && touch once && sleep 600", False)],
    ids=["passes at the second call", "refuses a second call"],
)
def test_a_call_after_a_kill(tmp_path: Path, first: str, went_on: bool) -> None:
    row = kills.one(1.0, True, source(tmp_path / "source", first))
    assert (row["stage"], row["stored"], row["went_on"]) == (None, False, went_on)
    assert set(row["made"]) == (set(OUTS) if went_on else set())


def test_nothing_of_a_killed_call_lives_on(tmp_path: Path) -> None:
    clone = source(tmp_path / "source", "(while :; do date > beat; sleep 0.01; done) & sleep 600")
    with kills.repro(clone):
        while not (clone / "beat").exists():
            time.sleep(0.01)
    (clone / "beat").unlink()
    time.sleep(0.1)
    assert not (clone / "beat").exists()


@pytest.mark.parametrize(
    ("stage", "killed", "later"),
    [
        (None, None, False), ("collect", None, False), ("train", None, True), ("collect", "collect", False),
        ("train", "collect", True), ("collect", "train", False),
    ],
)  # fmt: skip
def test_a_later_stage(stage: str | None, killed: str | None, later: bool) -> None:
    assert kills.is_later(stage, killed, ["collect", "train", "export"]) is later


def figures(**last: Any) -> dict[str, Any]:
    """Figures of four kills, in the four phases; the last row can be changed."""
    row = {"stage": "collect", "stored": True, "went_on": True, "made": {}}
    rows = {
        0.0: row | {"made": OUTS},
        0.5: row | {"stage": None, "stored": False},
        1.0: row | {"stored": False},
        1.5: row | {"made": OUTS},
        2.0: row | {"stage": "train", "made": OUTS} | last,
    }
    return kills.figures(rows) | {"quick": False}


def test_figures_are_documented_and_count_phases() -> None:
    found = figures()
    assert set(found) == KEYS and all(key in (kills.__doc__ or "") for key in KEYS)
    assert [found[phase] for phase in kills.PHASES] == [1, 1, 1, 1]
    counts = ("kills", "went_on", "completed", "outs", "differing")
    assert [found[key] for key in counts] == [4, 4, 2, 2, 0] and kills.missed(found) == []


def test_what_does_not_go_on_or_ends_otherwise_is_a_miss() -> None:
    stopped = figures(went_on=False, made={})
    assert (stopped["went_on"], stopped["completed"]) == (3, 1) and "3 of the 4 next calls" in kills.render(stopped)
    assert kills.missed(stopped) == ["the call after a kill at 2 s did not go on"]
    differing = figures(made=OUTS | {"profiles/tiny/metrics/train.json": "n"})
    assert kills.missed(differing) == ["differing: 1, want 0"] and " 1 differ from" in kills.render(differing)
