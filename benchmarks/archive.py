"""Trainings of the benchmark that come with the repository: those in which no policy has a part.

Most trainings of the benchmark follow schedules, rivals and LR finders. They stay the same when the policy changes. So
`lr_benchmark` writes their results to `FILE`, and puts them into its cache before it trains. A result lies there under
the key of its run, a hash of everything that decides it. After a change of code or packages the key is another one, and
the training is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.runs import Run
from pipeline.result_cache import open_cache

FILE = Path(__file__).parent / "results" / "trainings.parquet"
KINDS = ("baseline", "grid", "oracle", "rival", "textbook")  # of methods without a policy
CURVES = ("val_curve", "lr_curve")
KEY = "key"


@dataclass(frozen=True)
class Archived(Benchmark):
    """A benchmark that trains nothing that the archive has."""

    keys: set[str] = field(default_factory=set)  # of the runs so far that belong into the archive

    def compute(self, runs: Sequence[Run], what: str) -> pd.DataFrame:
        mine = {run.key() for run in runs if run.method.kind in KINDS}
        restore(self.cache, mine)
        self.keys.update(mine)
        return super().compute(runs, what)


def restore(folder: Path, keys: Iterable[str]) -> None:
    """Put those results of `keys` into the run cache at `folder` that it lacks and the archive has."""
    with open_cache(folder) as cache:
        lacking = {key for key in keys if key not in cache}
        if not lacking or not FILE.is_file():
            return
        table = pq.read_table(FILE)
        held = [key.hex() in lacking for key in table[KEY].to_pylist()]
        with cache.transact():
            for result in table.filter(pa.array(held)).to_pylist():
                cache[result.pop(KEY).hex()] = result


def store(folder: Path, keys: Iterable[str]) -> None:
    """Replace the archive by the results of `keys` in the run cache at `folder`, curves in single precision.

    Raises KeyError if the cache lacks one.
    """
    ordered = sorted(keys)
    with open_cache(folder) as cache:
        results = [cast(dict[str, Any], cache[key]) for key in ordered]
    columns = {name: pa.array([_single(name, result[name]) for result in results]) for name in results[0]}
    digests = pa.array([bytes.fromhex(key) for key in ordered], pa.binary(32))
    pq.write_table(
        pa.table({KEY: digests} | columns), FILE, compression="zstd", compression_level=19, use_dictionary=False,
        use_byte_stream_split=True,
    )  # fmt: skip


def _single(name: str, value: Any) -> Any:
    return np.asarray(value, np.float32) if name in CURVES else value
