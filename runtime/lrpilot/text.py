"""Words of messages."""

from __future__ import annotations


def counted(number: str, noun: str, nouns: str | None = None) -> str:
    """A printed number and what it counts: "1 step", "0.5 steps", "2 passes" with `nouns`, which adds an s if None."""
    return f"{number} {noun if number == '1' else nouns or f'{noun}s'}"
