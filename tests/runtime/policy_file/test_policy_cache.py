"""The cache of policies on a disk that is full."""

from pathlib import Path

import pytest

import full_disk

STORE = """
import os
os.environ["XDG_CACHE_HOME"] = sys.argv[1]
from lrpilot.policy_file import policy_cache
FULL
print(policy_cache.store("sqlite:///mlflow.db", ["models:/lr-policy/1"], "1", b"x" * 1000))
"""


@pytest.mark.parametrize(
    ("limit", "stored"),
    [(10, []), (999, []), (1000, ["policy", "note"]), (10_000, ["policy", "note"])],
)
def test_a_full_disk_leaves_no_temporary_file(limit: int, stored: list[str], tmp_path: Path) -> None:
    place = full_disk.run(STORE, tmp_path, limit=limit)
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    assert (place != "None") == bool(stored) and len(files) == len(stored)
    assert all(file.endswith((".onnx", ".json")) for file in files)


def test_a_note_that_does_not_fit_leaves_the_policy_alone(tmp_path: Path) -> None:
    code = STORE.replace('b"x" * 1000', 'b"x"')
    assert full_disk.run(code, tmp_path, limit=50) == "None"
    (file,) = (file for file in tmp_path.rglob("*") if file.is_file())
    assert file.suffix == ".onnx" and file.read_bytes() == b"x"
