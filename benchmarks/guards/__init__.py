"""Which injected faults the guards catch, and how often they fire on sound trainings."""
