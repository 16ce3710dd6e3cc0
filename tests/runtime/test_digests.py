"""SHA-256 of whatever there is, by one known hash and by equality with it."""

from pathlib import Path

import pytest

from lrpilot import digests

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_one_content_has_one_hash(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    assert digests.of_bytes(b"abc") == digests.of_parts([b"a", memoryview(b"bc")]) == digests.of_file(file) == ABC
    with pytest.raises(FileNotFoundError):
        digests.of_file(tmp_path / "nothing")


def test_the_order_of_keys_does_not_count() -> None:
    hashes = [digests.of_json(content) for content in ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, {"a": 1, "b": [3]})]
    assert hashes[0] == hashes[1] == digests.of_bytes(b'{"a": 1, "b": [2]}') != hashes[2]
