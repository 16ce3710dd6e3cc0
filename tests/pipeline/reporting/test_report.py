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
from pipeline.reporting import readme, result_keys, scores
from pipeline.reporting.verdict import MINUS
from repository import TOP

ODD = "<b>odd</b> & family"  # what a name must not do to the page
REGRET = {
    "policy": 0.2123, "policy_val": 0.19, "rival.calibrated": 0.3, "rival.finder_steepest": 0.5,
    "rival.finder_tenth": 0.4, "control.random_init": 0.9, "control.state_blind": 0.6, "control.mean_lr": 0.45,
    "control.hold": 0.25, "textbook.default": 0.42, "textbook.wsd": 0.41, "baseline.cosine": 0.7,
    "baseline.linear": 0.65,
}  # fmt: skip
SPREAD = 0.02
REGIMES = {"ordinary": 0.75, "odd": 0.25}  # of the tasks, with their shares; no task of the two others
SEEDS = {"grid": (1000, 1001)}  # that choose the oracle; all others are judged on 0 and 1
LABEL = f"{ODD} w · SGD · 100 steps"
LEFT_OUT = f"{ODD} lost · Adam · 90 steps: no tuned training improves on its start"


def rows() -> pd.DataFrame:
    """Two tasks, two seeds; regrets as in REGRET, a seed above and one below; baselines from two rates; the oracle."""
    table = []
    for task, (family, optimizer) in enumerate([("spirals", "adam"), (ODD, "sgd")]):
        for group, regret in (REGRET | {"oracle.test_loss": 0.0}).items():
            kind, _, method = group.rpartition(".")
            runs = [(kind or "policy", np.nan)]
            if kind == "baseline":
                runs = [(k, lr0) for k in ("baseline", "grid") for lr0 in (1e-3, 1e-1)]
            for kind, lr0 in runs:
                for seed in SEEDS.get(kind, (0, 1)):
                    value = regret + SPREAD * (2 * (seed % 2) - 1) + 0.1 * task
                    table.append({
                        "split": "heldout", "family": family, "task": f"{family}-{task}", "workload": "w",
                        "regime": [*REGIMES][task],
                        "optimizer": optimizer, "n_steps": 100, "steps_per_epoch": 10.0, "kind": kind,
                        "method": method, "lr0": lr0, "seed": seed, "val_loss": value, "val_error": np.nan,
                        "test_loss": np.nan if group == "control.random_init" else value, "test_error": np.nan,
                        "milestones": [50, 100], "val_curve": [1.0, value], "lr_curve": np.linspace(1e-2, 0, 100),
                        "seconds": 0.5, "regret": value, "steps_to_target": 50.0 if seed else np.nan,
                        "epochs_to_target": 5.0 if seed else np.nan, "error_gap": 0.05 if task else np.nan,
                    })  # fmt: skip
    return pd.DataFrame(table)


def evaluation() -> dict:
    out: dict = {
        "benchmark": "f00d" * 4, "calibrated.adam": "cosine 0.001", "heldout.configured": 3, "heldout.tasks": 2,
        "heldout.left_out.lost-7": LEFT_OUT, "heldout.seeds": 2, "heldout.worst_task": LABEL,
    }  # fmt: skip
    for regime, share in REGIMES.items():
        out |= {f"heldout.tasks.{regime}": 1, f"heldout.share.{regime}": share}
    for group, mean in REGRET.items():
        score = {"mean": mean, "iqm": mean, "low": mean - SPREAD, "high": mean + SPREAD, "worst": mean + 0.1}
        if group != "policy":
            gap = REGRET["policy"] - mean
            score |= {"policy_minus": gap, "policy_minus_low": gap - SPREAD, "policy_minus_high": gap + SPREAD}
            score |= {"tasks_lost": float(gap > 0)}
            for i, regime in enumerate(REGIMES):  # the textbook default wins where trainings are odd
                mine = 0.2 if group == "textbook.default" and i else gap
                score |= {
                    f"{regime}_policy_minus{end}": mine + d
                    for end, d in (("", 0), ("_low", -SPREAD), ("_high", SPREAD))
                }
        score |= {"ordinary_mean": mean - 0.1, "odd_mean": mean + 0.3}
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
    paths.train_curve.write_text("agent,step,name,loss\nseed0,1000,critic_loss,0.5\nblind0,1000,critic_loss,0.6\n")
    return paths


@pytest.fixture(scope="module")
def page(paths) -> str:
    return report.render(paths)


@pytest.mark.parametrize(
    "text",
    [
        "mean normalised regret is <b>0.212</b>",
        "0.192 to 0.232",
        "calibrated schedule: 0.300",
        "textbook default: 0.420",
        "best rival, LR finder (tenth of blow-up): 0.400",
        "Lower regret than the calibrated schedule, the textbook default and the best rival, LR finder",
        "<code>lost-7</code>",
        "no tuned training improves on its start",
        "It loses 0\N{NO-BREAK SPACE}% of the tasks to the calibrated schedule",
        "~0.238 (~0.258 to ~0.218)".replace("~", MINUS),  # minus the replay of the mean curve
        "5,760 runs, 250,000 decisions,\n12.5 % of the runs diverged",
        "ab" * 32,
        "f00d" * 4,
        "c" * 40,  # the commit, from the bundle's manifest
        "adam: cosine 0.001",
        "In the regime “odd” its regret is higher than that of textbook default +0.200 (+0.180 to +0.220).",
        "No task of fine-tuning, small and noisy: the other shares are scaled",
    ],
)
def test_the_page_says(page: str, text: str) -> None:
    assert text in page


def test_the_page_names_the_worst_task_and_escapes_it(page: str) -> None:
    assert "<p>Worst task: &lt;b&gt;odd&lt;/b&gt; &amp; family w · SGD · 100 steps, regret 0.31.</p>" in page
    assert "<b>odd" not in page


def test_the_table_of_tasks_has_labels_and_ids_the_worst_first(page: str) -> None:
    cells = re.findall(r'<tr><td title="([^"]+)">(.+?)<br><code>(.+?)</code> (.+?)</td>', page)
    odd = "&lt;b&gt;odd&lt;/b&gt; &amp; family"
    spirals = ("spirals-0", "spirals w · Adam · 100 steps", "spirals-0", "ordinary")
    assert cells == [(f"{odd}-1", f"{odd} w · SGD · 100 steps", f"{odd}-1", "odd"), spirals]


def test_regimes_are_columns(page: str) -> None:
    """The policy's .2123: .112 on the ordinary task, .512 on the odd one."""
    head = re.search(r"<th>all</th>(<th>.+?)</tr>", page)
    assert head is not None and re.findall(r"<th>(\w+)<br>", head[1]) == ["ordinary", "odd"]
    assert "75\N{NO-BREAK SPACE}%, 1 task" in head[1]
    row = re.search(r'<tr class="mine"><td>learned policy</td><td>0.212</td>(.+?)</tr>', page, re.DOTALL)
    assert row is not None and re.findall(r">([\d.]+)</td>", row[1].replace("\n", "")) == ["0.112", "0.512"]


def test_the_page_states_the_tasks_and_seeds_of_the_runs(page: str) -> None:
    runs = rows()
    mine = runs[runs.kind == "policy"]
    assert f"Judged: {mine.task.nunique()} of 3 tasks, {mine.seed.nunique()} seeds each" in page
    assert runs.seed.nunique() > mine.seed.nunique()  # those that choose are no judges


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'>\s]+)|url\(([^)]*)\)|@import", page)
    assert sources and all(src.startswith("data:image/svg+xml;base64,") for src, _ in sources)
    assert not re.search(r"<(script|link|iframe)\b", page)


def test_what_is_wide_scrolls_in_a_box_of_its_own(page: str) -> None:
    """So that a page 390 px wide does not scroll sideways; the tables of facts wrap instead."""
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    before = [page[match.start() - 30 : match.start()] for match in re.finditer(r"<table>|<img ", page)]
    assert len(before) >= 7
    assert [text for text in before if not re.search(r'<div class="scroll[ \w]*">$', text)] == []


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


def test_scores_are_those_of_one_split_in_order() -> None:
    figures = evaluation() | {"train.policy.mean": 9.0, "heldout.baseline.cosine.sensitivity": 1.0}
    table = scores.table(figures, "heldout")
    assert [s.group for s in table] == sorted(REGRET, key=REGRET.__getitem__)
    with pytest.raises(ValueError, match=r"selection\.policy\.mean is missing"):
        scores.table(figures, "selection")


def test_the_readmes_table() -> None:
    lines = readme.results(evaluation()).splitlines()
    assert "| method | all | ordinary | odd | policy minus it (95 %) |" in lines
    assert "| **learned policy** | **0.212** | **0.112** | **0.512** | **–** |" in lines
    cosine = "| CosineAnnealingLR | 0.700 | 0.600 | 1.000 | -0.488 (-0.508 to -0.468) |"
    assert cosine.replace("-", MINUS) in lines
    (scope,) = (line for line in lines if line.startswith("Mean regret on the held-out families"))
    assert (
        "2 of 3 tasks, 2 seeds each; share and tasks of regimes: ordinary 75 % (1), odd 25 % (1); no task of fine"
        in scope
    )
    assert scope.endswith(f"; left out: {LEFT_OUT}:")
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert names == ["method", "---", "**learned policy**", "first level held", "LR finder (tenth of blow-up)",
                     "textbook default", "CosineAnnealingLR"]  # fmt: skip


def test_the_readme_says_losses_before_its_table() -> None:
    text = readme.results(evaluation())
    lost = text.index("- In the regime “odd” its regret is higher than that of textbook default")
    assert lost < text.index("- Lower regret than") < text.index("| method |")
