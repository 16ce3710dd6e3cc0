"""The report and the README say what the evaluation measured, no more."""

import html
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluated import LEFT_OUT, REGRET, evaluation, rows, write
from pipeline import report
from pipeline.evaluation import aggregates
from pipeline.reporting import readme, scores
from pipeline.reporting.verdict import MINUS


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write(tmp_path_factory.mktemp("root"))


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


def test_the_tables_of_tasks_have_labels_and_ids_regime_by_regime(page: str) -> None:
    cells = re.findall(r'<tr><td title="([^"]+)">(.+?)<br><code>(.+?)</code> (.+?)</td>', page)
    odd = "&lt;b&gt;odd&lt;/b&gt; &amp; family"
    spirals = ("spirals-0", "spirals w · Adam · 100 steps", "spirals-0", "ordinary")
    assert cells == [spirals, (f"{odd}-1", f"{odd} w · SGD · 100 steps", f"{odd}-1", "odd")]


@pytest.mark.parametrize(("regime", "more"), [("ordinary", -0.1), ("odd", 0.3)])
def test_a_regime_has_a_section_of_its_own(page: str, regime: str, more: float) -> None:
    """With the policy and its measures, the lowest mean first, on scales from -0.05 to 1.05; with rates and tasks."""
    (section,) = re.findall(rf'<h3 id="heldout-{regime}">.+?</details>', page, re.DOTALL)
    marks = re.findall(
        r'class="(?:\w+ ?)+"><th class="name" scope="row">(.+?)</th>.+?left: ([\d.]+)%"></i></td>', section
    )
    others = {"textbook.wsd", "rival.finder_steepest", "baseline.cosine", "baseline.linear"}
    expected = sorted((mean, group) for group, mean in REGRET.items() if group not in others)
    places = [round(100 * (min(max(mean + more, -0.05), 1.05) + 0.05) / 1.1, 1) for mean, _ in expected]
    assert [html.unescape(name) for name, _ in marks] == [scores.NAMES[group] for _, group in expected]
    assert [float(place) for _, place in marks] == places
    assert len(re.findall("<svg", section)) == 1 and f"</code> {regime}</td>" in section


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
    ids = Counter(re.findall(r' id="([^"]+)"', page))
    assert sources and {(href or url).removeprefix("#") for href, url in sources} <= {*ids}
    assert [name for name, count in ids.items() if count > 1] == []
    assert not re.search(r"<(script|link|iframe|img)\b", page)


def test_pictures_have_the_colours_of_the_page(page: str) -> None:
    """Which are lighter where it is dark; no text of theirs is black."""
    defined = set(re.findall(r"(--\w+):", page))
    pictures = re.findall(r"<svg.+?</svg>", page, re.DOTALL)
    used = {name for picture in pictures for name in re.findall(r"var\((--\w+)\)", picture)}
    assert {"--policy", "--other", "--control"} <= used <= defined
    assert all("currentColor" in picture and not re.search(r"#000000|black", picture) for picture in pictures)


def test_what_is_wide_scrolls_in_a_box_of_its_own(page: str) -> None:
    """So that a page 390 px wide does not scroll sideways; scales and tables of facts wrap instead."""
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    before = [page[match.start() - 30 : match.start()] for match in re.finditer(r"<table>", page)]
    assert len(before) == 5
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


def test_the_readme_says_how_soon_the_policy_is_as_good_as_the_textbook_default() -> None:
    figures = {"reached": 0.86, "steps": 0.25, "within": 0.93}
    text = readme.results(evaluation() | {f"ordinary.textbook.default.{name}": f for name, f in figures.items()})
    wanted = (
        "- Of ordinary trainings 86 % reach the final validation loss of the textbook default, the median after "
        "25 % of the steps. 93 % end better than it, or worse by at most 0.01."
    )
    assert wanted in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Of ordinary trainings" not in readme.results(evaluation())
