"""What the README shows of the shipped policy, a table and a picture: `make promote` writes both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import figures, marked, report_data, report_figures, verdict
from pipeline.paths import Paths

README = Path("README.md")
PICTURE = Path("docs/images/report.png")
SPLIT = "heldout"


def update(paths: Paths, readme: Path = README, picture: Path = PICTURE) -> None:
    """Write the table and the picture of ROOT's evaluation. Raises ValueError for a README without its marks."""
    evaluation = figures.read(paths)
    readme.write_text(marked.fill(readme.read_text(encoding="utf-8"), "results", results(evaluation)), encoding="utf-8")
    rows = report_data.load(paths.evaluation)
    rates = report_data.sensitivity(rows[rows.split == SPLIT])
    report_figures.write_png(report_figures.picture(verdict.scores(evaluation, SPLIT), rates), picture)


def results(evaluation: Mapping[str, Any]) -> str:
    """Markdown: what the held-out families say, and a table of all methods."""
    table = verdict.scores(evaluation, SPLIT)
    judged = verdict.judge(table)
    head = ["method", "mean regret", "95 % interval", "policy minus it (95 %)", "worst task"]
    rows = [head, ["---", "---:", "---:", "---:", "---:"]]
    for s in table:
        cells = [s.name, verdict.number(s.mean), verdict.interval(s.low, s.high), verdict.gap(s)]
        cells.append(verdict.number(s.worst, 2))
        rows.append([f"**{c}**" for c in cells] if s.group == verdict.POLICY else cells)
    lines = [
        f"**{judged.headline}.** {' '.join(judged.sentences)}",
        "",
        f"Normalised regret on {evaluation[f'{SPLIT}.tasks']} tasks of the {verdict.SPLITS[SPLIT]}:",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines)
