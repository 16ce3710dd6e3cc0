"""What the README shows of the shipped policy, a table and a picture: `make benchmark` writes both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.evaluation import oracle
from pipeline.reporting import markdown, report_data, report_figures, result_keys, scores, verdict

README = Path("README.md")
PICTURE = Path("docs/images/report.png")
SPLIT = "heldout"
METHODS = {  # of the table, beside the best rival
    result_keys.POLICY, "policy_steps", scores.HOLD, "rival.schedule_free_high", "rival.prodigy_cosine",
    scores.TEXTBOOK, "baseline.cosine",
}  # fmt: skip


def update(evaluation: Mapping[str, Any], rows: pd.DataFrame, readme: Path = README, picture: Path = PICTURE) -> None:
    """Write the table and the picture of figures and runs. Raises ValueError for a README without its marks."""
    readme.write_text(
        markdown.fill(readme.read_text(encoding="utf-8"), "results", results(evaluation)), encoding="utf-8"
    )
    rates = report_data.sensitivity(oracle.whole_grid(rows), rows)
    report_figures.write_png(report_figures.picture(scores.table(evaluation, SPLIT), rates), picture)


def results(evaluation: Mapping[str, Any]) -> str:
    """Markdown: what the held-out families say, losses first, and a table of the methods that people ask about.

    The table has a column for each regime. docs/benchmark.md has all methods.
    """
    table = scores.table(evaluation, SPLIT)
    judged, regimes = verdict.judged(evaluation, SPLIT), scores.shares(evaluation, SPLIT)
    best = scores.best(table, "rival")
    groups = {*METHODS, best.group} if best else METHODS
    titles = [title for title, _, _ in regimes.values()]
    head = ["method", "all", *titles, "policy minus it (95 %)"]
    rows = []
    for s in (score for score in table if score.group in groups):
        cells = [s.name, verdict.number(s.mean), *(verdict.number(s.regimes[regime].mean) for regime in regimes)]
        cells.append(verdict.gap(s))
        rows.append([f"**{c}**" for c in cells] if s.group == result_keys.POLICY else cells)
    paragraphs = [
        "\n".join(f"- {sentence}" for sentence in [*judged.sentences, *_sooner(evaluation)]),
        f"Mean regret on the {scores.SPLITS[SPLIT]}, {scores.scope(evaluation, SPLIT)}:",
        markdown.table(head, rows),
    ]
    return "\n\n".join(paragraphs)


def _sooner(evaluation: Mapping[str, Any]) -> list[str]:
    """A sentence on how soon the policy reaches the final loss of the textbook default, if it usually does."""
    prefix = f"ordinary.{scores.TEXTBOOK}."
    if f"{prefix}steps" not in evaluation:
        return []
    steps, reached, within = (evaluation[prefix + figure] for figure in ("steps", "reached", "within"))
    return [
        f"Of ordinary trainings {verdict.percent(reached)} reach the final validation loss of the textbook default, "
        f"the median after {verdict.percent(steps)} of the steps. {verdict.percent(within)} end better than it, or "
        "worse by at most 0.01."
    ]
