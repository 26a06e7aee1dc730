"""Behaviour through public doors; see pyproject.toml for how to run."""
