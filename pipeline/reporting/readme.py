"""What the README shows of the shipped policy, a table and a picture: `make benchmark` writes both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.evaluation import grid
from pipeline.reporting import markdown, report_data, report_figures, result_keys, scores, verdict

README = Path("README.md")
PICTURE = Path("docs/images/report.png")
SPLIT = "heldout"


def update(evaluation: Mapping[str, Any], rows: pd.DataFrame, readme: Path = README, picture: Path = PICTURE) -> None:
    """Write the table and the picture of figures and runs. Raises ValueError for a README without its marks."""
    readme.write_text(
        markdown.fill(readme.read_text(encoding="utf-8"), "results", results(evaluation)), encoding="utf-8"
    )
    rates = report_data.sensitivity(grid.whole(rows), rows)
    report_figures.write_png(report_figures.picture(scores.table(evaluation, SPLIT), rates), picture)


def results(evaluation: Mapping[str, Any]) -> str:
    """Markdown: what the held-out families say, and a table of all methods, with a column for each regime."""
    table = scores.table(evaluation, SPLIT)
    judged, regimes = verdict.judged(evaluation, SPLIT), scores.shares(evaluation, SPLIT)
    titles = [title for title, _, _ in regimes.values()]
    head = ["method", "mean regret", "95 % interval", *titles, "policy minus it (95 %)", "worst task"]
    rows = []
    for s in scores.listed(table):
        cells = [s.name, verdict.number(s.mean), verdict.interval(s.low, s.high)]
        cells += [verdict.number(s.regimes[regime].mean) for regime in regimes]
        cells += [verdict.gap(s), verdict.number(s.worst, 2)]
        rows.append([f"**{c}**" for c in cells] if s.group == result_keys.POLICY else cells)
    paragraphs = [
        f"**{judged.headline}.** {' '.join(judged.sentences)}",
        f"Normalised regret on the {scores.SPLITS[SPLIT]}, {scores.scope(evaluation, SPLIT)}:",
        markdown.table(head, rows),
    ]
    return "\n\n".join(paragraphs)
