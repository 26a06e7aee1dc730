"""Make the clip that comes with the package: a public-domain portrait and a synthesised voice.

    python -m export.demo sdk/occam_sdk/models/demo.mp4

Needs scikit-image (extra ``export``), whose wheel carries NASA's portrait of Eileen Collins, and the
program ``espeak-ng``. The camera comes slowly closer, so that frames differ.
"""

from __future__ import annotations

import argparse
import io
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from .manifest import put

SIDE: Final = 320
RATE_HZ: Final = 25
SECONDS: Final = 3
FACE_CENTRE_XY: Final = (224.0, 120.0)  # in the portrait's pixels
WIDEST, CLOSEST = 220.0, 170.0  # side of the portrait's part that is shown
SENTENCE: Final = "What a wonderful day! I am so happy to be here."


def pictures() -> list[NDArray[np.uint8]]:
    """(SIDE, SIDE, 3) RGB uint8 frames."""
    from skimage import data

    portrait = data.astronaut()
    shown = []
    for side in np.linspace(WIDEST, CLOSEST, SECONDS * RATE_HZ):
        scale = SIDE / side
        left, top = (centre - side / 2 for centre in FACE_CENTRE_XY)
        matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        moved = cv2.warpAffine(
            portrait, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        shown.append(np.asarray(moved, np.uint8))
    return shown


def speech() -> list[av.AudioFrame]:
    """The sentence as espeak-ng says it."""
    command = ["espeak-ng", "-v", "en-us+f3", "-s", "150", "-p", "70", "--stdout", SENTENCE]
    wav = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603
    with av.open(io.BytesIO(wav), "r") as container:
        return list(container.decode(audio=0))


def write(target: Path) -> None:
    """Encode H.264 and AAC into ``target``."""
    with av.open(str(target), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream(
            "h264", rate=RATE_HZ, options={"crf": "26", "preset": "veryslow"}
        )
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=22_050, layout="mono")
        audio.bit_rate = 48_000
        for index, image in enumerate(pictures()):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE_HZ)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=22_050)
        left = SECONDS * 22_050
        for sound in speech():
            for part in resampler.resample(sound):
                if left > 0:
                    left -= part.samples
                    container.mux(audio.encode(part))
        container.mux(audio.encode())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="the .mp4 to write")
    target = parser.parse_args().target
    write(target)
    put(target.read_bytes(), target)


if __name__ == "__main__":
    main()
