"""Regrets, bars and page of the battery, by hand; keys of its cache; its command line."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harmless import measure as module
from benchmarks.harmless.figures import alarms, health, regret, summary
from benchmarks.harmless.loops import GUARDS, METHODS, PILOT, RIVALS
from benchmarks.harmless.measure import BY_NAME, CODE, Job, key, main, missed, render, trained
from benchmarks.harmless.page import trainings
from pipeline import code_hash
from pipeline.result_cache import open_cache


def row(
    final: float, events: tuple[str, ...] = (), seed: int = 0, best: float = 0.2, first: float = 1.2
) -> dict[str, Any]:
    """A training whose best rival ends at `best`, and the pilot at `final`."""
    ends: dict[str, Any] = {rival: {"final": best + i} for i, rival in enumerate(RIVALS)}
    ends |= {
        method: {"final": final, "level": 0.5, "anchor": -0.25, "events": dict(Counter(events))} for method in GUARDS
    }
    return {
        "case": "mine",
        "kind": "usual",
        "loop": "plain",
        "steps": 64,
        "floor": 0.0,
        "seed": seed,
        "first": first,
    } | ends


def result(*rows: dict[str, Any]) -> dict[str, Any]:
    sums = {f"{method}.{name}": value for method in METHODS for name, value in summary(rows, method).items()}
    return {"policy": "0123456789abcdef", **sums, "rows": list(rows)}


@pytest.mark.parametrize(
    ("final", "expected"), [(0.2, 0.0), (1.2, 1.0), (0.7, 0.5), (-0.3, -0.5), (math.nan, math.inf), (9.2, 9.0)]
)
def test_regret(final: float, expected: float) -> None:
    assert regret(row(final), PILOT) == pytest.approx(expected)


def test_the_best_rival_is_one_that_is_not_lost() -> None:
    lost = row(0.2) | {RIVALS[0]: {"final": math.nan}}
    assert regret(lost, RIVALS[0]) == math.inf
    assert health(lost) == pytest.approx((1.2 - 1.2) / 1.2, abs=1e-9)  # the second rival learned nothing


def test_sums_by_hand() -> None:
    rows = [
        row(0.2),
        row(0.7, ("loss_rise", "recovery", "recovery")),
        row(math.nan, ("loss_runaway", "loss_rise")),
        row(-8.8),
    ]
    assert [alarms(r, PILOT) for r in rows] == [0, 1, 2, 0]
    assert summary(rows, PILOT) == pytest.approx(
        {"ruined": 2, "regret": (0 + 0.5 + 2 - 1) / 4, "worst": 2.0, "alarmed": 2, "alarms": 3}
    )
    assert summary(rows, "linear 1e-3") == {"ruined": 0, "regret": 0.0, "worst": 0.0}


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([row(0.2)] * 50, []),
        ([row(0.2)] * 49 + [row(0.2, ("loss_rise",))], []),
        ([row(0.2)] * 48 + [row(0.2, ("loss_rise",))] * 2, ["2 of 50 trainings had an alarm, the bar is 2%"]),
        ([row(0.2, ("recovery",))] * 50, []),
        ([row(0.2)] * 49 + [row(0.61)], ["the pilot ruined 1 of 50 trainings"]),
        ([row(0.26)] * 50, ["the pilot's mean regret is 0.060, the bar is 0.05"]),
        ([row(0.2), row(1.0, best=1.0)], ["mine, seed 0: no rival learns it, 17% of the way"]),
    ],
)
def test_bars(rows: list[dict[str, Any]], lines: list[str]) -> None:
    assert missed(result(*rows)) == lines


def test_the_page_shows_what_is_ruined_first() -> None:
    page = render(result(row(0.9, ("loss_rise", "recovery", "loss_rise"), seed=3), row(0.3, seed=4)))
    ruined, others = page.split("## The 10 worst of the others")
    line = "| mine | 3 | pilot | 1.2 | 0.2 | 0.9 | 0.70 | +0.50 | -0.25 | loss_rise 2, recovery 1 |"
    assert line in ruined and line not in others.split("## All together")[0]
    assert "| mine | 4 | pilot | 1.2 | 0.2 | 0.3 | 0.10 | +0.50 | -0.25 | – |" in others
    assert "| pilot | 1 | 0.400 | 0.70 | 1 | 2 |" in others
    assert "| mine | plain | 64 | 1.2 | 0.2 | 0.40 | 0.70 | 1 | 2 | 0.40 | 0.00 | 1.00 |" in others
    assert render(result(row(0.2))).startswith("## Ruined\n\nNone.")


def test_a_lost_network_has_no_regret_to_show() -> None:
    assert "| nan | lost |" in render(result(row(math.nan)))


def test_lines_of_a_rival_have_no_level() -> None:
    assert trainings([row(0.2)], RIVALS[0]).endswith("| mine | 0 | linear 1e-3 | 1.2 | 0.2 | 0.2 | 0.00 |  |  | – |")


def test_results_are_written_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- harmless -->\n<!-- /harmless -->\n")
    monkeypatch.setattr(module, "OUT", tmp_path / "harmless.json")
    monkeypatch.setattr(module, "PAGE", page)
    r = result(row(0.2, ("loss_rise",)), row(0.9, seed=1))
    module.write(r)
    text = module.OUT.read_text()
    assert json.loads(text) == r and len(text.splitlines()) < 40
    assert render(r) in page.read_text() and page.read_text().startswith("# Before")


def test_keys_are_text_that_tells_all_trainings_apart() -> None:
    keys = [key(Job(name, seed, method)) for name in BY_NAME for seed in (0, 1) for method in METHODS]
    assert len({*keys}) == len(keys) and not any(" at 0x" in str(k) for k in keys)


def test_only_pilots_depend_on_lrpilot_and_its_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(name.startswith("lrpilot") for name in code_hash.closure(*CODE, unused=("lrpilot",)))
    assert {
        "lrpilot.decisions.guard",
        "lrpilot.decisions.restart",
        "lrpilot.integrations.lightning",
    } < code_hash.closure(*CODE)
    jobs = [Job("64 steps", 0, method) for method in METHODS]
    before = [key(job) for job in jobs]
    monkeypatch.setattr(module, "policy", lambda: "another")
    assert [key(job) != old for job, old in zip(jobs, before, strict=True)] == [job.method in GUARDS for job in jobs]


def test_trainings_are_cached(tmp_path: Path) -> None:
    jobs = [Job("64 steps", 0, method) for method in (PILOT, RIVALS[0])]
    ends = trained(jobs, tmp_path)
    with open_cache(tmp_path) as cache:
        assert {*cache} == {key(job) for job in jobs}
        cache[key(jobs[0])] = {"first": 9.0}
    assert trained(jobs, tmp_path) == {jobs[0]: {"first": 9.0}, jobs[1]: ends[jobs[1]]}


def test_a_part_is_printed_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "BENCHMARK_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    assert main(["--only", "64 steps", "--methods", "pilot,linear 1e-3", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "| 64 steps | 0 | pilot |" in printed and "| 64 steps | 0 | linear 1e-3 |" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--only", "no such"], "--only: no case contains 'no such'"),
        (["--methods", "pilot,luck"], "--methods: luck, want some of pilot, unguarded"),
    ],
)
def test_a_wrong_argument_is_named(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(argv)
    assert message in capsys.readouterr().err
