"""Trajectory files: what is written is read; what is damaged is named, with file and row; the page tells the truth."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy.trajectories import (
    REASONS,
    SCHEMA,
    TrajectoryError,
    count_runs,
    encode,
    files,
    fingerprint,
    read,
    store,
)
from repository import TOP
from written_task import ROWS, sound, table


def with_value(column: str, row: int, value: Any) -> Callable[[Path], None]:
    """A damage: one value replaced."""

    def damage(path: Path) -> None:
        values = sound()[column]
        values[row] = value
        pq.write_table(table(**{column: values}), path)

    return damage


def truncated(path: Path) -> None:
    store(encode(table()), path)
    path.write_bytes(path.read_bytes()[:-200])


def garbled(path: Path) -> None:
    """A column's name is no text any more."""
    store(encode(table()), path)
    flip(path, path.read_bytes().index(b"val_loss"), bit=7)


def other_format(path: Path) -> None:
    pq.write_table(table().replace_schema_metadata({"lrpilot.format": "99"}), path)


def bare(path: Path) -> None:
    pq.write_table(table().replace_schema_metadata({}), path)


def wrong_type(path: Path) -> None:
    at = SCHEMA.get_field_index("lr")
    pq.write_table(table().set_column(at, "lr", table()["lr"].cast(pa.float32())), path)


def reordered(path: Path) -> None:
    pq.write_table(table().select(SCHEMA.names[::-1]), path)


def headless(path: Path) -> None:
    """The second run lacks its first row."""
    pq.write_table(pa.concat_tables([table().slice(0, 4), table().slice(5)]), path)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncated, "not readable as Parquet"),
    "garbled": (garbled, "not readable as Parquet"),
    "empty file": (lambda path: path.write_bytes(b""), "not readable as Parquet"),
    "a text": (lambda path: path.write_text("run_id,step\n"), "not readable as Parquet"),
    "other format": (other_format, "trajectory format 99, this version reads 8; collect again"),
    "no format": (bare, "trajectory format none"),
    "missing column": (lambda p: pq.write_table(table().drop_columns(["val_loss"]), p), "columns ['val_loss'] are"),
    "unknown column": (lambda p: pq.write_table(table().append_column("odd", [[1] * ROWS]), p), "columns ['odd'] are"),
    "wrong type": (wrong_type, "columns ['lr'] are missing, unknown or of another type"),
    "another order": (reordered, "columns are in another order"),
    "no rows": (lambda path: pq.write_table(table().slice(0, 0), path), "no rows"),
    "decision jumps": (with_value("decision", 2, 3), "row 2 (run a): decision or step does not follow"),
    "step falls": (with_value("step", 5, 3), "row 5 (run b): decision or step does not follow"),
    "late start": (headless, "row 4 (run b): a run must start with decision 0"),
    "no end": (with_value("reason", 3, "running"), "row 3 (run a): a run must end with its reason"),
    "end in the middle": (with_value("reason", 1, "budget"), "row 1 (run a): a run must end with its reason"),
    "no end of the last": (with_value("reason", 6, "running"), "row 6 (run b): a run must end with its reason"),
    "unknown reason": (with_value("reason", 6, "tired"), "row 6 (run b): reason must be one of"),
    "no reason": (with_value("reason", 6, None), "row 6 (run b): reason must be one of"),
    "no step": (with_value("step", 1, None), "row 1 (run a): step must lie in [0, n_steps]"),
    "step past N": (with_value("step", 3, 91), "row 3 (run a): step must lie in [0, n_steps]"),
    "negative lr": (with_value("lr", 1, -1e-3), "row 1 (run a): lr must be finite and not negative"),
    "lr nan": (with_value("lr", 1, np.nan), "row 1 (run a): lr must be finite"),
    "action 2": (with_value("action", 4, 2.0), "row 4 (run b): action must lie in [-1, 1]"),
    "no action": (with_value("action", 1, np.nan), "row 1 (run a): action must lie in [-1, 1]"),
    "val_error 1.5": (with_value("val_error", 0, 1.5), "row 0 (run a): val_error must lie in [0, 1]"),
}  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "family" / "0.parquet"
    store(encode(table()), path)
    rows = read(path)
    assert rows.schema.equals(SCHEMA)
    assert repr(rows.to_pylist()) == repr(table().to_pylist())  # repr: nan equals nan
    assert count_runs(rows) == 2
    assert list(path.parent.iterdir()) == [path]


def test_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store(encode(table()), tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "damaged.parquet"
    damage(path)
    with pytest.raises(TrajectoryError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def test_a_flipped_bit_is_found_in_every_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    store(encode(table()), path)
    group = pq.read_metadata(path).row_group(0)
    for column in map(group.column, range(group.num_columns)):
        start = column.dictionary_page_offset or column.data_page_offset
        last = start + column.total_compressed_size - 1
        flip(path, last)
        with pytest.raises(TrajectoryError, match="not readable as Parquet"):
            read(path)
        flip(path, last)
    read(path)


def test_a_full_disk_leaves_no_partial_and_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"old")
    path.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        store(encode(table()), path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.parquet", b"old")]


def test_a_file_that_cannot_be_replaced_leaves_no_partial(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        store(encode(table()), path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"nowhere\.parquet: not readable"):
        read(tmp_path / "nowhere.parquet")


def test_files_are_in_order_and_there_must_be_some(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match="holds no trajectories; run the collect stage first"):
        files(tmp_path)
    wanted = [tmp_path / f / n for f, n in (("a", "2.parquet"), ("a", "9.parquet"), ("b", "1.parquet"))]
    for path in reversed(wanted):
        store(encode(table()), path)
    (tmp_path / "a" / "5.partial").touch()
    assert files(tmp_path) == wanted


def test_fingerprint_tells_contents_and_names_not_folders(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "a.parquet" for folder in ("one", "two", "three")]
    for path, lr in zip(paths, (0.1, 0.1, 0.2), strict=True):
        store(encode(table(lr=[lr] * ROWS)), path)
    one, two, three = (fingerprint([path]) for path in paths)
    assert one == two != three
    assert fingerprint([paths[0].rename(paths[0].with_name("b.parquet"))]) != one


PAGE = TOP / "docs/trajectories.md"


def test_the_page_lists_the_schema() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\w<>]+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    plain = {"double": "float64", "list<element: double>": "list<float64>", "list<item: double>": "list<float64>"}
    assert rows == [(f.name, plain.get(str(f.type), str(f.type))) for f in SCHEMA]


def test_the_page_lists_the_reasons() -> None:
    assert tuple(re.findall(r"^- `(\w+)`: ", PAGE.read_text(), re.MULTILINE)) == REASONS
