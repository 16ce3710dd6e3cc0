"""The page of the original experiment is written from the runs of its profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.original.pages import page, summary
from experiments.original.plan.paths import OriginalPaths
from original_roots import result
from pipeline.reporting import markdown
from repository import TOP


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What the stages record and table leave, of one pair."""
    paths = OriginalPaths(tmp_path)
    results = [result(name, 1e-3, seed, 0.4 + seed) for name in ("fixed", "pilot") for seed in (0, 1)]
    paths.rows.parent.mkdir(parents=True)
    summary.rows(results, {"mnist": 0.6}).to_parquet(paths.rows)
    paths.record_metrics.parent.mkdir(parents=True)
    paths.record_metrics.write_text(json.dumps({"trainings": 20}))
    return tmp_path


def test_the_page_has_its_place_and_gets_the_tables(root: Path) -> None:
    results = page.measure(root)
    assert json.loads(json.dumps(results))["trainings"] == 4
    text = markdown.fill((TOP / page.PAGE).read_text(encoding="utf-8"), "original", page.render(results))
    for words in (
        "### MNIST × VGG-16, batch 64, 2 epochs",
        "4 trainings of 20 to 20 optimizer steps",
        "On a GPU: not measured.",
    ):
        assert words in text


def test_a_profile_that_did_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"rows\.parquet: not there; run `make repro PROFILE=plan-mid`, or `make"):
        page.measure(tmp_path / "plan-mid")
