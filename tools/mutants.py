"""Do the tests notice small changes? Each mutant of a module runs against the module's own tests.

    python -m tools.mutants                             # as `make mutants`: all modules, and docs/mutants.md
    python -m tools.mutants runtime/lrpilot/probing/probe.py    # some of them

tools/mutants.toml defines what is changed, which tests should notice, and which mutants may survive. Results are stored
in .mutants, a file per module, so an interrupted run continues where it stopped. A module starts again if it, its tests
or the operators have changed. (Changes in other modules that it uses are not detected: remove .mutants.) The exit
status is 1 if a mutant survives without a reason, a reason has no survivor, or too few mutants are killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tomllib
from pathlib import Path

from tools.mutation import Change, session, survivors, workers

CONFIG, SESSIONS, PAGE = Path("tools/mutants.toml"), Path(".mutants"), Path("docs/mutants.md")
INTRODUCTION = (
    "Do the tests notice small changes of the code? `make mutants` makes one small change (a mutant) at a time",
    "and runs the module's tests. A mutant is killed if a test fails. The first table has the shares, the second",
    "explains each survivor.",
)


def render(counts: dict[str, int], alive: list[Change], reasons: dict[Change, str]) -> str:
    """The page: the shares, and the survivors with the reasons why they may survive."""
    lines = ["# Mutants", "", *INTRODUCTION, ""]
    lines += ["| Module | Mutants | Killed | Share |", "|---|---:|---:|---:|"]
    for name in (*counts, "all"):
        n = sum(counts.values()) if name == "all" else counts[name]
        killed = n - sum(name in (module, "all") for module, _, _ in alive)
        lines.append(f"| {name} | {n} | {killed} | {killed / n:.1%} |")
    lines += ["", "Survivors:", "", "| Module | Before | After | Why it may survive |", "|---|---|---|---|"]
    for change in alive:
        module, before, after = (text.replace("|", "\\|").replace("\n", " ") for text in change)
        lines.append(f"| {module} | `{before}` | `{after}` | {reasons.get(change, '')} |")
    return "\n".join([*lines, ""])


def main() -> None:
    config = tomllib.loads(CONFIG.read_text())
    parser = argparse.ArgumentParser(description="Whether the tests notice small changes.")
    parser.add_argument("modules", nargs="*", help="some of those in tools/mutants.toml (default: all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    modules = {name: config["modules"][name] for name in arguments.modules or config["modules"]}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copies go
    SESSIONS.mkdir(exist_ok=True)
    paths = {module: session(SESSIONS, module, tests, config["operators"]) for module, tests in modules.items()}
    counts, alive = dict[str, int](), list[Change]()
    with workers(arguments.workers, config["libraries"]) as pool:
        for module, path in paths.items():
            counts[module], changes = survivors(module, path, modules[module], pool)
            alive += changes
    reasons = {(s["module"], s["before"], s["after"]): s["reason"] for s in config.get("survivors", ())}
    print(page := render(counts, alive, reasons))
    if len(modules) == len(config["modules"]):
        PAGE.write_text(page)
    unexplained = [change for change in dict.fromkeys(alive) if change not in reasons]
    for change in unexplained:  # to be pasted into tools/mutants.toml, if there is one
        module, before, after = map(json.dumps, change)
        print(f'[[survivors]]\nmodule = {module}\nbefore = {before}\nafter = {after}\nreason = ""\n')
    lost = [change for change in reasons if change[0] in modules and change not in alive]
    for change in lost:
        print("a reason without a survivor:", *change, sep="\n  ")
    share = 1 - len(alive) / sum(counts.values())
    sys.exit(bool(unexplained or lost or share < config["killed_at_least"]))


if __name__ == "__main__":
    main()
