"""Fetch and check the data sets and BERT, write them as arrays for the trainings, and estimate the total time."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.original.plan.catalogue import PRETRAINED, SETS
from experiments.original.plan.config import EMBEDDED, Original, load
from experiments.original.plan.paths import OriginalPaths, original_root
from experiments.original.sources import hub, sets
from experiments.original.sources.mirror import write_mirror
from experiments.original.trainings import cells, estimate
from experiments.original.trainings.recordings import recorded
from pipeline import tracking
from pipeline.engines import EngineError
from pipeline.schema import ConfigError


def lay_out(params: Original, paths: OriginalPaths) -> list[sets.About]:
    """Write the arrays of all sets and the folder of BERT. Raises `ConfigError`, `DataError`, OSError."""
    config, mirror = params.data, None
    if config.mirror == EMBEDDED:
        shutil.rmtree(paths.mirror, ignore_errors=True)
        write_mirror(paths.mirror, params.embedded)
        mirror = paths.mirror
    elif config.mirror:
        mirror = hub.folder(config.mirror)
    shutil.rmtree(paths.sets, ignore_errors=True)
    paths.sets.mkdir(parents=True)
    tokenizer: Any = None
    if any(SETS[name].kind == "text" for name in params.plan.pairs):
        folder = Path(params.models.pretrained) if params.models.pretrained else mirror and mirror / PRETRAINED
        tokenizer, encoder = hub.pretrained(folder)
        encoder.save_pretrained(paths.sets / "bert")
    with tempfile.TemporaryDirectory(dir=paths.sets.parent) as cache:  # what `datasets` converts a mirror to
        about = [sets.make(name, config, mirror, tokenizer, paths.sets, Path(cache)) for name in params.plan.pairs]
    sets.write(about, paths.sets)
    return about


def main() -> None:
    paths = original_root(__doc__)
    params = load(paths.root)
    with tracking.stage(paths, "prepare", asdict(params.data) | {"models": asdict(params.models)}) as log:
        try:
            about = lay_out(params, paths)
            measured = estimate.measure(list(cells.pairs(params, paths)), params.training)
        except (ConfigError, hub.DataError, EngineError) as error:
            raise SystemExit(f"prepare: {error}") from None
        except Exception as error:
            if not hub.full(error):
                raise
            raise SystemExit(f"prepare: {paths.sets.parent}: No space left on device; make room there") from None
        walls = {}
        for name, trainings in {"record": recorded(params, paths), "run": cells.cells(params, paths)}.items():
            walls[name] = len(trainings), estimate.seconds(trainings, measured, params.training)
        metrics: dict[str, Any] = {f"{a.name}.{part}": rows for a in about for part, rows in a.rows.items()}
        metrics |= estimate.report(measured, walls)
        log.write(metrics, paths.prepare_metrics)
        log.tags({tracking.DATA: sets.fingerprint(about)})


if __name__ == "__main__":
    main()
