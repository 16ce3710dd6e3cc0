"""What the pipeline writes for people: the report, the README's table, the model card."""
