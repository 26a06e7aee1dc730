"""From checkpoints to a bundle: ``python -m export.<stage>``, run from a checkout, never installed."""
