"""What the scheduler costs a training, measured by commands: `python -m benchmarks.overhead.measure`."""
