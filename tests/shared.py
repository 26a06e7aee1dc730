"""Data that cannot be part of the repository: tests that need it skip, with a reason, where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
CLIPS = DATA / "clips"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")
needs_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/data/clips is not there")
