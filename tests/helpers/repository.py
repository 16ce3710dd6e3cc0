"""Where the repository lies."""

from pathlib import Path

TOP = Path(__file__).parents[2]
