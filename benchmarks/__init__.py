"""Measurements of the shipped scheduler and of the machinery behind it, each a command that writes its own page part.

Here: the benchmark of methods (`lr_benchmark`), the spread of best rates that it rests on (`spread`), and trainings
unlike those of the policy (`robust`). `overhead`: what the scheduler costs a training. `guards`: what its guards catch.
`scaling`: how far the collection and the offline training scale. `results`: the figures of all of them, committed.
"""
