"""Policies of the benchmark: their part of a key, and several policies that drive one population."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from lrpilot import load_policy
from lrpilot.decisions.protocol import Policy


@cache
def policy_content(path: str) -> tuple[str, str]:
    """What identifies a policy, wherever its file is: the hash of its graph, and its decision process."""
    manifest = load_policy(path).manifest
    return manifest.graph, repr(manifest.protocol)


def side_by_side(policies: Sequence[Policy]) -> Policy:
    """One policy for a population in which each of `policies` drives one run."""
    members: dict[int, list[int]] = {}
    for i, policy in enumerate(policies):
        members.setdefault(id(policy), []).append(i)

    def ask_each(observations: np.ndarray) -> np.ndarray:
        actions = np.empty(len(observations))
        for rows in members.values():
            actions[rows] = np.ravel(policies[rows[0]](observations[rows]))
        return actions

    return ask_each
