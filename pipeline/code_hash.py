"""A hash of the code that can change a result. It is part of the key under which the result is cached.

It covers the modules of this repository that a result's entry modules import, directly or indirectly, including imports
inside functions. The walk stops at `INERT` modules, which cannot change a number. `hashed_source` says what of a module
counts. The names of modules do not: a file that moves, or gets another name, changes no hash. A package's own file
counts only by its imports, because it contains little else.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from functools import cache
from importlib import metadata

from lrpilot import digests
from pipeline import import_graph
from pipeline.hashed_source import source

# Modules, and packages with all that is in them, that change no number of what imports them.
INERT = {
    "lrpilot.loop.announcer": "warnings, and a user's log of the decisions",
    "lrpilot.reports.explain": "sentences about decisions",
    "lrpilot.reports.history": "a log of the decisions, which no decision reads",
    "lrpilot.reports.listing": "tables of that log",
    "lrpilot.reports.plot": "pictures of that log",
    "lrpilot.reports.style": "colours of pictures",
    "lrpilot.range_test.run": "suggests a rate to people",
    "lrpilot.policy_file.registry": "finds the file of a policy, which counts by its content",
    "lrpilot.policy_file.policy_cache": "keeps such files",
    "lrpilot.cli": "the command line",
    "lrpilot.digests": "names files and results",
    "benchmarks.command": "the command line of a benchmark",
    "pipeline.code_hash": "names results",
    "pipeline.config": "reads parameters, which count by their values",
    "pipeline.evaluation.stats": "sums results up",
    "pipeline.engines": "runs work in processes, on one machine or more",
    "pipeline.paths": "where files lie",
    "pipeline.reporting": "pages and tables of results",
    "pipeline.result_cache": "keeps results",
    "pipeline.schema": "checks parameters",
    "pipeline.tracking": "logs to MLflow",
    "pipeline.workloads.families": "a table of all families; the one at hand is an entry module of its result",
    "pipeline.workloads.recorded.families": "a table of recorded families, likewise",
    "policy.allowed": "checks parameters",
    "policy.settings": "parameters, which count by their values",
}


@cache
def digest(*modules: str, packages: tuple[str, ...] = (), unused: tuple[str, ...] = ()) -> str:
    """SHA-256 of the closure of `modules`, and of the versions of `packages`. The package "python" is Python itself.

    `unused` are modules at which the closure stops, and packages with everything in them: imported, but never run for
    this result. Raises ModuleNotFoundError or PackageNotFoundError if one does not exist.
    """
    contents = sorted(_content(name, unused) for name in closure(*modules, unused=unused))
    return digests.of_json([contents, {package: _version(package) for package in packages}])


def closure(*modules: str, unused: Collection[str] = ()) -> set[str]:
    """Dotted names: `modules` and the modules of ours that they import, directly or not, except for inert and `unused`
    ones.
    """
    names = import_graph.closure(modules, (*INERT, *unused))
    return {name for name in names if not import_graph.is_package(name)}


def _content(module: str, unused: tuple[str, ...]) -> str:
    """Hash of a module. The modules that it names count by the hash of their own source, where they can matter."""
    mine = source(module)
    outside = (*INERT, *unused)
    others = [
        "" if import_graph.is_package(name) or import_graph.within(name, outside) else source(name).sha256
        for name in mine.modules
    ]
    return digests.of_json([mine.sha256, *others])


def _version(package: str) -> str:
    return platform.python_version() if package == "python" else metadata.version(package)
