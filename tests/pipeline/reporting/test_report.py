"""The report and the README say what the evaluation measured, no more."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bundles import write_bundle
from pipeline import report
from pipeline.evaluation import aggregates
from pipeline.paths import Paths
from pipeline.reporting import readme, result_keys, verdict
from pipeline.reporting.verdict import MINUS, Score
from repository import TOP

ODD = "<b>odd</b> & family"  # what a name must not do to the page
REGRET = {
    "policy": 0.2123, "policy_val": 0.19, "rival.calibrated": 0.3, "rival.finder_steepest": 0.5,
    "rival.finder_tenth": 0.4, "control.random_init": 0.9, "control.state_blind": 0.6, "control.mean_lr": 0.45,
    "baseline.cosine": 0.7, "baseline.linear": 0.65,
}  # fmt: skip
SPREAD = 0.02


def rows() -> pd.DataFrame:
    """Two tasks, two seeds; regrets as in REGRET, a seed above and one below; baselines from two rates."""
    table = []
    for task, (family, optimizer) in enumerate([("spirals", "adam"), (ODD, "sgd")]):
        for group, regret in REGRET.items():
            kind, _, method = group.rpartition(".")
            runs = [(kind or "policy", np.nan)]
            if kind == "baseline":
                runs = [(k, lr0) for k in ("baseline", "grid") for lr0 in (1e-3, 1e-1)]
            for kind, lr0 in runs:
                for seed in (0, 1):
                    value = regret + SPREAD * (2 * seed - 1) + 0.1 * task
                    table.append({
                        "split": "heldout", "family": family, "task": f"{family}-{task}", "workload": "w",
                        "optimizer": optimizer, "n_steps": 100, "steps_per_epoch": 10.0, "kind": kind,
                        "method": method, "lr0": lr0, "seed": seed, "val_loss": value, "val_error": np.nan,
                        "test_loss": np.nan if group == "control.random_init" else value, "test_error": np.nan,
                        "milestones": [50, 100], "val_curve": [1.0, value], "lr_curve": np.linspace(1e-2, 0, 100),
                        "seconds": 0.5, "regret": value, "steps_to_target": 50.0 if seed else np.nan,
                        "epochs_to_target": 5.0 if seed else np.nan, "error_gap": 0.05 if task else np.nan,
                    })  # fmt: skip
    return pd.DataFrame(table)


def evaluation() -> dict:
    out: dict = {"benchmark": "f00d" * 4, "heldout.tasks": 2, "calibrated.adam": "cosine 0.001"}
    for group, mean in REGRET.items():
        score = {"mean": mean, "iqm": mean, "low": mean - SPREAD, "high": mean + SPREAD, "worst": mean + 0.1}
        if group != "policy":
            gap = REGRET["policy"] - mean
            score |= {"policy_minus": gap, "policy_minus_low": gap - SPREAD, "policy_minus_high": gap + SPREAD}
        out |= result_keys.encode("heldout", group, {key: round(value, 4) for key, value in score.items()})
    return out


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    paths = Paths(tmp_path_factory.mktemp("root"))
    for path in (paths.evaluation, paths.evaluate_metrics, paths.train_curve):
        path.parent.mkdir()
    shutil.copy(TOP / "params.yaml", paths.params)
    write_bundle(paths.policy)
    rows().to_parquet(paths.evaluation)
    contents = {
        paths.evaluate_metrics: evaluation(),
        paths.collect_metrics: {
            "runs": 5760, "families": 2, "optimizers": 3, "schedules": 12, "decisions": 250000,
            "divergent_share": 0.125, "wall_s": 300.0, "runs_per_hour": 69120,
        },
        paths.train_metrics: {"steps": 20000, "agents": 1},
        paths.export_metrics: {"parity": 2e-07, "bytes": 99000, "agents": 1, "sha256": "ab" * 32},
    }  # fmt: skip
    for path, content in contents.items():
        path.write_text(json.dumps(content))
    paths.train_curve.write_text("agent,step,name,loss\nseed0,1000,critic_loss,0.5\nblind,1000,critic_loss,0.6\n")
    return paths


@pytest.fixture(scope="module")
def page(paths) -> str:
    return report.render(paths)


@pytest.mark.parametrize(
    "text",
    [
        "mean normalised regret is <b>0.212</b>",
        "0.192 to 0.232",
        "the best schedule, linear decay, has\n0.650",
        "Lower regret than every schedule and every rival",
        "~0.238 (~0.258 to ~0.218)".replace("~", MINUS),  # minus the replay of the mean curve
        "5,760 runs, 250,000 decisions,\n12.5 % of the runs diverged",
        "ab" * 32,
        "f00d" * 4,
        "c" * 40,  # the commit, from the bundle's manifest
        "adam: cosine 0.001",
    ],
)
def test_the_page_says(page: str, text: str) -> None:
    assert text in page


def test_the_page_names_the_worst_task_and_escapes_it(page: str) -> None:
    assert re.search(r"worst task is <b>&lt;b&gt;odd&lt;/b&gt; &amp; family-1</b>, regret 0\.31", page)
    assert "<b>odd" not in page


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'>\s]+)|url\(([^)]*)\)|@import", page)
    assert sources and all(src.startswith("data:image/svg+xml;base64,") for src, _ in sources)
    assert not re.search(r"<(script|link|iframe)\b", page)


def test_equal_input_gives_equal_bytes(paths, page: str, tmp_path: Path) -> None:
    assert report.render(paths) == page
    pictures = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.md").write_text("<!-- results -->\n<!-- /results -->\n")
        readme.update(
            evaluation(), aggregates.with_groups(rows()), tmp_path / f"{name}.md", tmp_path / name / "picture.png"
        )
        pictures.append((tmp_path / name / "picture.png").read_bytes())
    assert pictures[0] == pictures[1] and pictures[0].startswith(b"\x89PNG")


def test_outcomes_count_runs_that_never_get_there() -> None:
    table = rows().assign(group=lambda r: np.where(r.kind == "policy", r.method, r.kind + "." + r.method))
    policy = aggregates.outcomes(table)["policy"]
    assert (policy.runs, policy.diverged, policy.reached, policy.error_gap) == (4, 0.0, 0.5, 0.05)
    assert policy.steps == pytest.approx(0.75)  # half of the runs need 50 of 100 steps, the others count with all
    assert policy.epochs == pytest.approx(7.5)
    assert aggregates.outcomes(table)["control.random_init"].diverged == 1.0


LOST, OPEN, WON = (0.1, 0.05, 0.15), (-0.02, -0.08, 0.04), (-0.3, -0.4, -0.2)  # the policy's regret minus another's


def score(group: str, gap: tuple[float, float, float] | None = None) -> Score:
    mean = 0.4 - (gap[0] if gap else 0.0)
    return Score(group, mean, mean, mean - 0.05, mean + 0.05, 1.0, *(gap or (None, None, None)))


@pytest.mark.parametrize(
    ("baseline", "rival", "control", "tone", "headline", "sentence"),
    [
        (WON, WON, WON, "good", "every schedule and every rival", "All 1 controls are beaten"),
        (WON, OPEN, WON, "mixed", "blindly chosen rate, but not than: calibrated", "No difference can be shown from"),
        (WON, LOST, WON, "mixed", "blindly chosen rate, but not than: calibrated", "Higher regret than calibrated"),
        (LOST, WON, WON, "mixed", "1 of 2 schedules and rivals; not than: Cosine", "Higher regret than Cosine"),
        (LOST, OPEN, WON, "mixed", "0 of 2 schedules and rivals", "No difference can be shown from calibrated"),
        (WON, WON, OPEN, "bad", "learned nothing beyond: state-blind", f"does as well, {MINUS}0.020"),
        (WON, WON, LOST, "bad", "learned nothing beyond: state-blind", "sees the clock alone"),
    ],
)
def test_verdict(baseline, rival, control, tone, headline, sentence) -> None:
    table = [
        score("policy"), score("policy_val", LOST), score("baseline.cosine", baseline),
        score("rival.calibrated", rival), score("control.state_blind", control),
    ]  # fmt: skip
    judged = verdict.judge(table)
    assert judged.tone == tone
    assert headline in judged.headline
    assert sentence in " ".join(judged.sentences)


def test_scores_are_those_of_one_split_in_order() -> None:
    figures = evaluation() | {"train.policy.mean": 9.0, "heldout.baseline.cosine.sensitivity": 1.0}
    table = verdict.scores(figures, "heldout")
    assert [s.group for s in table] == sorted(REGRET, key=REGRET.__getitem__)
    with pytest.raises(ValueError, match=r"selection\.policy\.mean is missing"):
        verdict.scores(figures, "selection")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (float("nan"), "–"), (-0.0001, "0.000"), (-0.5, f"{MINUS}0.500"), (1.25, "1.250")]
)
def test_numbers_for_people(value, text) -> None:
    assert verdict.number(value) == text


def test_the_readmes_table() -> None:
    lines = readme.results(evaluation()).splitlines()
    assert "| **learned policy** | **0.212** | **0.192 to 0.232** | **–** | **0.31** |" in lines
    assert "| linear decay | 0.650 | 0.630 to 0.670 | -0.438 (-0.458 to -0.418) | 0.75 |".replace("-", MINUS) in lines
    assert "Normalised regret on 2 tasks of the held-out families:" in lines
