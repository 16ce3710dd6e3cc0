"""What the scheduler costs a training: time per step, memory, time of the import."""
