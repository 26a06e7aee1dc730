"""From data to checkpoints: ``python -m training.<stage>``, run from a checkout, never installed."""
