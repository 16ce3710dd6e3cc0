"""Trainings of ten to a hundred million weights on a GPU: what the pilot is worth there, and what it costs per step."""
