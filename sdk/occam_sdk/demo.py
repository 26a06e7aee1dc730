"""The clip that comes with the package."""

from __future__ import annotations

from pathlib import Path


def demo_clip() -> Path:
    """A clip of 3 s, 320x320, one smiling face and a synthetic voice.

    The portrait is NASA's of Eileen Collins (public domain), the voice is espeak-ng's; how it was
    made is in ``export/demo.py`` of the repository.

    Example:
        >>> demo_clip().name
        'demo.mp4'
    """
    return Path(__file__).parent / "models" / "demo.mp4"
