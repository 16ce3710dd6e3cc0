"""What a cache holds is not computed again, and what is missing is kept as it comes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.result_cache import through


def test_what_is_missing_is_computed_once_and_cached_as_it_comes(tmp_path: Path) -> None:
    """Items are numbers here, their keys the last digits, their results the squares of those."""
    asked = list[list[int]]()

    def compute(items: Sequence[int]) -> Iterator[dict[int, int]]:
        asked.append([*items])
        for item in items:
            if item == 7:
                raise ValueError(item)
            yield {item: (item % 10) ** 2}

    def squares(*items: int) -> dict[int, int]:
        return through(tmp_path, {item: item % 10 for item in items}, compute)

    assert squares(3, 5, 13) == {3: 9, 5: 25, 13: 9}
    assert squares(23, 5) == {23: 9, 5: 25}
    with pytest.raises(ValueError, match="7"):
        squares(4, 7, 8)
    assert squares(8, 4, 5) == {8: 64, 4: 16, 5: 25}
    assert [sorted(item % 10 for item in items) for items in asked] == [[3, 5], [4, 7, 8], [8]]
