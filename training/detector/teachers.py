"""What two teachers say of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from occam_sdk.backends import Network, Runtime, open_session
from occam_sdk.errors import BackendError
from occam_sdk.types import Face
from occam_sdk.video.faces import CENTERFACE_MAPS, CENTERFACE_MIN_SCORE, LONG_SIDE, CenterFace
from occam_sdk.video.follow import intersection_over_union

MAX_OVERLAP: Final = 0.3  # intersection over union above which two boxes are one face

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


class CenterFaceAt:
    """CenterFace in float32, which looks at every picture in the same size, however large it is stored.

    Args:
        path: file of ``export.centerface``.
        long_side: about how many pixels the longer side has.
        min_score: of a face.
        threads: of the CPU; None leaves it to the runtime.

    Raises:
        ValueError: it is no network, or another one.
    """

    def __init__(
        self,
        path: Path,
        long_side: int = LONG_SIDE,
        min_score: float = CENTERFACE_MIN_SCORE,
        *,
        threads: int | None = 1,
    ) -> None:
        network = Network("centerface", path.read_bytes())
        try:
            session = open_session(network, Runtime("openvino", "cpu", "fp32", threads))
        except BackendError as error:
            raise ValueError(f"{path}: {error}") from error
        if not session.ports[1] >= CENTERFACE_MAPS:
            raise ValueError(f"{path}: is not CenterFace as python -m export.centerface makes it")
        self._centerface, self._long_side = CenterFace(session, min_score=min_score), long_side

    def detect(self, image: Image) -> tuple[Face, ...]:
        """Faces of one (H, W, 3) BGR uint8 picture, the most confident first."""
        return self._centerface.detect_at(image, self._long_side)


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes, corners x, y, x, y."""
    left_top = np.maximum(boxes[:, None, :2], others[None, :, :2])
    right_bottom = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.maximum(right_bottom - left_top, 0), axis=2)
    areas = [np.prod(np.maximum(b[:, 2:] - b[:, :2], 0), axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.asarray(common / np.maximum(union, 1e-9), np.float32)


def merged(seen: Sequence[Face]) -> tuple[Face, ...]:
    """Of the sightings of a picture each face once: as where it was seen most surely."""
    kept: list[Face] = []
    for face in sorted(seen, key=lambda face: -face.confidence):
        if all(intersection_over_union(face, other) <= MAX_OVERLAP for other in kept):
            kept.append(face)
    return tuple(kept)
