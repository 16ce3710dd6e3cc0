"""Results on disk, each under a key that stands for everything that decides it, so none is computed twice.

A cache is a folder of diskcache. The benchmark's trainings, the offline agents and the measurements of the benchmarks
lie in such folders.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from lrpilot import load_policy

Item = TypeVar("Item", bound=Hashable)


def through(
    folder: Path, keys: Mapping[Item, Hashable], compute: Callable[[Sequence[Item]], Iterable[Mapping[Item, Any]]]
) -> dict[Item, Any]:
    """For each item the result that `folder` holds under its key. Missing results are computed, and cached as they
    arrive.

    `compute` gets one item for each missing key, and yields results of some of them at a time; none is None.
    """
    with open_cache(folder) as results:
        known = {key: results.get(key) for key in dict.fromkeys(keys.values())}
        missing = {key: item for item, key in keys.items() if known[key] is None}
        for part in compute([*missing.values()]) if missing else ():
            with results.transact():
                for item, result in part.items():
                    known[keys[item]] = results[keys[item]] = result
    return {item: known[key] for item, key in keys.items()}


def open_cache(folder: Path) -> diskcache.Cache:
    """Results by key. Nothing is ever removed."""
    return diskcache.Cache(str(folder), eviction_policy="none", size_limit=2**40)


@cache
def policy_key(path: str) -> tuple[str, str]:
    """A policy's part of a key, wherever its file is: the hash of its graph, and its decision process."""
    manifest = load_policy(path).manifest
    return manifest.graph, repr(manifest.protocol)
