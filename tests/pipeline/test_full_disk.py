"""What writes a file aside and renames it leaves nothing behind where the disk is full."""

from pathlib import Path

import pytest

import full_disk

WRITERS = {
    "a recording": """
from policy import trajectories
write = lambda folder: trajectories.store(b"x" * 1000, folder / "old")
""",
    "figures of a collection": """
from pipeline import collect
def write(folder):
    if not collect.write({"x": "x" * 1000}, folder / "old"):
        raise OSError
""",
    "a promoted policy": """
from tools import promote
write = lambda folder: promote.ship(b"x" * 1000, "card", folder)
""",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_left_behind(writer: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    code = f"""
from pathlib import Path
{WRITERS[writer]}
FULL
try:
    write(Path(sys.argv[1]))
except OSError:
    print("full")
"""
    assert full_disk.run(code, tmp_path, limit=500) == "full"
    assert [file.name for file in tmp_path.iterdir()] == ["old"] and (tmp_path / "old").read_text() == "old"
