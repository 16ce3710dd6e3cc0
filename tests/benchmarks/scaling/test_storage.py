"""The benchmark of the storage runs and writes what it documents. Nothing here is about how fast anything is."""

import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.scaling import storage
from benchmarks.scaling.layouts import VARIANTS, Variant
from pipeline.simulation.recording import Spec, record
from policy import trajectories
from repository import TOP

COMMON = {
    "quick", "tasks", "runs", "rows", "pyarrow", "processor",
    "many_files", "many_gigabytes", "files_s", "fingerprint_s", "read_s", "store_ms", "unsynced_ms",
}  # fmt: skip
FIGURES = {"bytes_per_run", "encode_ms", "read_ms"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("storage") / "new" / "storage.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TOP)
        assert storage.main(["--quick", "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_it_writes_the_documented_figures(results: dict[str, Any]) -> None:
    assert set(results) == COMMON | {f"{name}.{figure}" for name in VARIANTS for figure in FIGURES}
    assert all(isinstance(v, str) or math.isfinite(v) for v in results.values())
    documented = storage.__doc__ or ""
    assert all(key in documented for key in COMMON | FIGURES)


def test_the_table_has_a_row_for_every_variant(results: dict[str, Any]) -> None:
    text = storage.render(results | {"chosen.bytes_per_run": 3073.4})
    head, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0][2:] for row in rows] == [v.words for v in VARIANTS.values()]
    assert {row.count("|") for row in rows} == {head.count("|")}
    assert "| 3,073 |" in rows[0]
    assert "10⁶ runs 3.1 GB in 31,250 files, 10⁷ runs 31 GB" in text


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """A small recorded task."""
    spec = Spec("illconditioned", 3, 4, True, (("cosine", 1.0),), (), (0.3, 0.95), None, 32, "cpu", "test")
    return pq.read_table(pa.BufferReader(record(spec)))


def test_chosen_is_what_is_stored(table: pa.Table) -> None:
    assert VARIANTS["chosen"].encode([table, table]) == [trajectories.encode(table)] * 2


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_layout_holds_the_rows(variant: Variant, table: pa.Table) -> None:
    files = [pq.ParquetFile(pa.BufferReader(content)) for content in variant.encode([table, table])]
    assert [file.num_row_groups for file in files] == ([1, 1] if not variant.together else [1 + variant.groups])
    rows = pa.concat_tables([file.read() for file in files])
    wanted = pa.concat_tables([table.cast(variant.schema)] * 2)
    assert repr(rows.to_pylist()) == repr(wanted.to_pylist())  # nan equals nan
