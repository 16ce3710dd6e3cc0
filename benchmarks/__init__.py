"""Measurements of the shipped scheduler and of its machinery. Each is a command that writes its own part of a page.

The modules here are the benchmark of methods (`lr_benchmark`), the spread of best rates behind it (`spread`), and
trainings unlike those of the policy (`robust`). `overhead`: what the scheduler costs a training. `guards`: what its
guards catch. `scaling`: how far the collection and the offline training scale. `results`: the committed figures of all
of them.
"""
