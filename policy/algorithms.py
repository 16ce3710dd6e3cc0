"""The offline RL algorithms that agents can learn with. All are d3rlpy's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of d3rlpy."""

    config: str  # d3rlpy's class with its parameters
    alpha: str = ""  # the parameter that train.alpha sets; "": none
    discrete: bool = False  # its actions are those of `policy.buffer.GRID`


# td3bc is TD3+BC (Fujimoto & Gu 2021, arXiv:2106.06860). If `n_step` is at least the length of an episode and `gamma`
# is 1, its targets are full returns: an actor-critic on Monte-Carlo returns, without bootstrapping.
ALGORITHMS = {
    "bc": Algorithm("BCConfig"),
    "iql": Algorithm("IQLConfig"),
    "cql": Algorithm("CQLConfig", alpha="conservative_weight"),
    "td3bc": Algorithm("TD3PlusBCConfig", alpha="alpha"),  # weight of the critic against imitation
    "awac": Algorithm("AWACConfig", alpha="lam"),  # λ
    "dqn": Algorithm("DQNConfig", discrete=True),
    "discretecql": Algorithm("DiscreteCQLConfig", alpha="alpha", discrete=True),  # weight of the conservative term
}
