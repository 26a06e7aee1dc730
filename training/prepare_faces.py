"""Faces, once: found and aligned by the product's own code, then kept as uint8 in one file.

    python -m training.prepare_faces --data ../shared/data --out runs/faces.npz

Reads ``ferplus.zip`` and ``diffusionfer_s.zip`` unpacked, or unpacks them beside the output.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from collections import Counter
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk.backends import open_session
from occam_sdk.labels import FERPLUS_LABELS
from occam_sdk.video.align import align_face
from occam_sdk.video.expression import to_grey
from occam_sdk.video.faces import CenterFace, FaceDetector

from .data import FaceSample, read_diffusionfer, read_ferplus

SIZE: Final = 64
"""Side of an aligned face in pixels. FER+ faces have 48: more would be interpolation, and a face of a
high-resolution picture would then be sharper than anything the network has learnt from."""

TEMPLATE: Final = (
    (0.313, 0.402), (0.687, 0.402), (0.500, 0.604), (0.357, 0.756), (0.643, 0.756),
)  # fmt: skip
"""Where the landmarks lie in an aligned face, in fractions of its side: the median over FER+ Train,
made symmetric, so that aligned FER+ faces lose as little as possible at their borders."""

DETECTOR: Final = Path(__file__).parents[1] / "sdk" / "occam_sdk" / "models" / "detector.onnx"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the zip files")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    args = parser.parse_args()
    ferplus = unpacked(args.data / "ferplus.zip", args.out.parent) / "ferplus"
    diffusion = unpacked(args.data / "diffusionfer_s.zip", args.out.parent) / "diffusionfer_s"
    samples = [*read_ferplus(ferplus), *read_diffusionfer(diffusion)]
    prepare(samples, args.out)


def unpacked(archive: Path, below: Path) -> Path:
    """The folder with the archive's files, unpacked below ``below`` unless they are there."""
    folder = below / archive.stem
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        with zipfile.ZipFile(archive) as file:
            file.extractall(partial)
        partial.rename(folder)
    return folder


def prepare(samples: list[FaceSample], out: Path) -> None:
    """Align every face and write ``out``; says how many were not found and what was left out."""
    detector = CenterFace(open_session(DETECTOR.read_bytes()))
    template = np.array(TEMPLATE, np.float32)
    crops, found, digests = [], [], []
    for number, sample in enumerate(samples):
        image = read_picture(sample.path)
        crop = aligned(image, detector, template)
        found.append(crop is not None)
        crops.append(plain_crop(image) if crop is None else crop)
        digests.append(hashlib.sha256(image.tobytes()).hexdigest())
        if number % 2000 == 0:
            print(f"{number} of {len(samples)} faces", flush=True)
    twin = twins_across_splits(samples, digests)
    labels = [-1 if sample.label is None else sample.label for sample in samples]
    for index in contradicting_twins(labels, digests):
        labels[index] = -1
    np.savez(
        out,
        faces=to_grey(np.stack(crops)),
        found=np.array(found),
        twin=np.array(twin),
        split=np.array([sample.split for sample in samples]),
        source=np.array([sample.path.parts[-2] for sample in samples]),
        synthetic=np.array([sample.valence_arousal is not None for sample in samples]),
        label=np.array(labels, np.int64),
        votes=np.array(
            [sample.votes or (0,) * len(FERPLUS_LABELS) for sample in samples], np.float32
        ),
        valence_arousal=np.array(
            [sample.valence_arousal or (np.nan, np.nan) for sample in samples], np.float32
        ),
    )
    seen = Counter((sample.split, ok) for sample, ok in zip(samples, found, strict=True))
    print(
        f"{out}: {len(samples)} faces; (split, found): {dict(seen)}; twins across splits: {sum(twin)}"
    )


def read_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path}: not a picture that OpenCV can read")
    return np.asarray(image, np.uint8)


def aligned(
    image: NDArray[np.uint8], detector: FaceDetector, template: NDArray[np.float32]
) -> NDArray[np.uint8] | None:
    """The largest face of the picture, aligned, or None."""
    faces = detector.detect(image)
    if not faces:
        return None
    main = max(faces, key=lambda face: face.area)
    return align_face(image, main.landmarks, template, SIZE)


def plain_crop(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole picture in an aligned face's size: what a face that is not found is learnt from."""
    return np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def twins_across_splits(samples: list[FaceSample], digests: list[str]) -> list[bool]:
    """For each picture, whether one with the very same pixels is in another split."""
    splits: dict[str, set[str]] = {}
    for sample, digest in zip(samples, digests, strict=True):
        splits.setdefault(digest, set()).add(sample.split)
    return [len(splits[digest]) > 1 for digest in digests]


def contradicting_twins(labels: list[int], digests: list[str]) -> list[int]:
    """Indices of pictures whose exact copies carry different labels: none of them can be trusted."""
    seen: dict[str, set[int]] = {}
    for label, digest in zip(labels, digests, strict=True):
        seen.setdefault(digest, set()).add(label)
    return [index for index, digest in enumerate(digests) if len(seen[digest] - {-1}) > 1]


if __name__ == "__main__":
    main()
