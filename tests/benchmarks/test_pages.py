"""Every page shows what was measured: its parts are the committed figures, rendered again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import encoders, guesses, lr_benchmark, nadamw_rate, robust, shipped, spread, suggest_rates
from benchmarks.gpu import large_tasks
from benchmarks.gpu import measure as gpu
from benchmarks.guards import injected
from benchmarks.harmless import measure as harmless
from benchmarks.overhead import measure
from benchmarks.scaling import kills, soak, vectorising
from pipeline.reporting import markdown, readme
from repository import TOP

MODULES = (
    encoders, guesses, harmless, kills, lr_benchmark, nadamw_rate, robust, shipped,
    soak, spread, suggest_rates, vectorising,
)  # fmt: skip
ON_A_GPU = [  # until there was one, there are no figures
    (gpu.RESULTS / gpu.TRAINED, gpu.PAGE, "gpu", gpu.render),
    (gpu.RESULTS / gpu.LARGE, gpu.PAGE, "gpu_large", large_tasks.render),
]
PARTS = [
    *((module.OUT, module.PAGE, module.OUT.stem, module.render) for module in MODULES),
    (measure.OUT, measure.README, "overhead", measure.render),
    (lr_benchmark.OUT, readme.README, "results", readme.results),
    *((path, *rest) for path, *rest in ON_A_GPU if (TOP / path).is_file()),
]


@pytest.mark.parametrize(("results", "page", "part", "render"), PARTS, ids=[part for _, _, part, _ in PARTS])
def test_a_part_is_its_results_rendered(results: Path, page: Path, part: str, render: Callable[[Any], str]) -> None:
    text = (TOP / page).read_text(encoding="utf-8")
    assert markdown.fill(text, part, render(json.loads((TOP / results).read_text(encoding="utf-8")))) == text


def test_the_guards_page_is_its_results_rendered() -> None:
    page = (TOP / injected.PAGE).read_text(encoding="utf-8")
    assert injected.render(page, json.loads((TOP / injected.RESULTS).read_text(encoding="utf-8"))) == page


def test_every_result_has_its_page() -> None:
    rendered = {results.name for results, *_ in PARTS} | {injected.RESULTS.name}
    assert {path.name for path in (TOP / "benchmarks/results").glob("*.json")} == rendered
