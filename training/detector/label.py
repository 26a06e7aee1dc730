r"""Pictures with faces as two teachers see them: where they agree it is a face.

    python -m training.detector.label scenes.zip ferplus.zip:ferplus/FER2013Train/* \
        --yunet face_detection_yunet_2023mar.onnx --centerface centerface.onnx --out runs/detector

A place that one of the two alone takes for a face is not learnt from, nor is what is under ``MIN_FACE_PX``.
Pictures of which the path says ``without_people`` are background whatever the teachers see there. The
landmarks are the mean of what both see in several sizes, also mirrored. Pictures that look alike are put
into the same part: an eighth each is Valid and Test.
"""

from __future__ import annotations

import argparse
import fnmatch
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk.types import Face
from occam_sdk.video.faces import FaceDetector, YuNet

from .teachers import CenterFace, Image, merged, overlaps

LONG_SIDES: Final = (160, 320, 640)  # a face that fills the picture is seen in the first
MOST_ENLARGED: Final = 4  # times: there is nothing more to see
SURE: Final = (0.5, 0.3)  # least scores of YuNet and CenterFace for a face that both see
SEEN: Final = (0.3, 0.25)  # least for a place that is left out if only one sees it
SAME: Final = 0.35  # overlap of two boxes of one face; CenterFace's are larger
SAME_LANDMARKS: Final = 0.5  # overlap of a view of which the landmarks count
MIN_FACE_PX: Final = 12.0  # root of the area
ALIKE: Final = 6  # bits of 64 by which the hashes of two pictures that look alike may differ
Sizes = Mapping[int, FaceDetector]
"""A teacher that looks at pictures in each of ``LONG_SIDES``."""
FILE: Final = "labels.npz"
LANDMARKS_MIRRORED: Final = (1, 0, 2, 4, 3)
UNFIT: Final = ("mask_", "mkffhq_", "bikes_")  # covered faces: YuNet guesses their landmarks


@dataclass(frozen=True, eq=False)
class Labels:
    """Faces of pictures in zip files.

    Attributes:
        archives: the zip files.
        archive, member: (P,) of each picture, the index of its file and its path in it.
        shape: (P, 2) height and width.
        alike: (P,) pictures that look alike have the same number.
        without_people: (P,) bool.
        trusted: (P,) bool, whether landmarks are to be learnt.
        picture: (N,) of each face.
        box: (N, 4) corners x, y, x, y in pixels.
        landmarks: (N, 5, 2).
        certain: (N,) bool: a face; else a place to leave out.
    """

    archives: tuple[Path, ...]
    archive: NDArray[np.int64]
    member: NDArray[np.str_]
    shape: NDArray[np.int64]
    alike: NDArray[np.int64]
    without_people: NDArray[np.bool_]
    trusted: NDArray[np.bool_]
    picture: NDArray[np.int64]
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    certain: NDArray[np.bool_]


def pictures(archives: Sequence[Path], patterns: Sequence[str], most: int) -> list[tuple[int, str]]:
    """Index of the archive and path in it of at most so many pictures of each, drawn with a seed.

    Raises:
        ValueError: an archive has no such picture.
    """
    found = []
    for index, (path, pattern) in enumerate(zip(archives, patterns, strict=True)):
        with zipfile.ZipFile(path) as archive:
            names = sorted(
                name
                for name in archive.namelist()
                if name.lower().endswith((".jpg", ".jpeg", ".png"))
                and fnmatch.fnmatch(name, pattern)
            )
        if not names:
            raise ValueError(f"{path}: has no picture {pattern}")
        drawn = np.random.default_rng(0).permutation(len(names))[:most]
        found += [(index, names[i]) for i in sorted(drawn.tolist())]
    return found


def decoded(content: bytes) -> Image | None:
    """(H, W, 3) uint8 BGR of an encoded picture, None if it is none."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.asarray(image, np.uint8)


class Judge:
    """Shows pictures of zip files to both teachers; one for each process.

    Args:
        archives: the zip files.
        yunet, centerface: files of the networks.
    """

    def __init__(self, archives: Sequence[Path], yunet: Path, centerface: Path) -> None:
        cv2.setNumThreads(1)
        self._archives = [zipfile.ZipFile(path) for path in archives]
        self._yunet = {side: YuNet(yunet, side, SEEN[0]) for side in LONG_SIDES}
        self._centerface = {side: CenterFace(centerface, side, SEEN[1]) for side in LONG_SIDES}

    def judge(self, archive: int, member: str) -> Judged | None:
        """One picture; None if it is none."""
        image = decoded(self._archives[archive].read(member))
        if image is None:
            return None
        found = judge(image, self._yunet, self._centerface)
        if "without_people" in member:
            found = found[0][:0], found[1][:0], found[2][:0]
        return Judged(archive, member, image.shape[:2], difference_hash(image), *found)


@dataclass(frozen=True, eq=False)
class Judged:
    """A picture and its faces: see ``Labels``."""

    archive: int
    member: str
    shape: tuple[int, int]
    hash: int
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    certain: NDArray[np.bool_]


def judge(
    image: Image, yunet: Sizes, centerface: Sizes
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes (N, 4), landmarks (N, 5, 2), and whether each is a face or a place to leave out."""
    sides = [side for side in LONG_SIDES if side <= MOST_ENLARGED * max(image.shape)]
    sides = sides[-2:] or [LONG_SIDES[0]]
    looks = [[of[side] for side in sides] for of in (yunet, centerface)]
    seen = [[face for detector in of for face in detector.detect(image)] for of in looks]
    mine, theirs = map(merged, seen)
    boxes = np.array([face.box_xyxy for face in (*mine, *theirs)], np.float32).reshape(-1, 4)
    landmarks = np.array([face.landmarks for face in (*mine, *theirs)], np.float32).reshape(
        -1, 5, 2
    )
    same = overlaps(boxes[: len(mine)], boxes[len(mine) :]) >= SAME
    sure_mine = np.array([face.confidence >= SURE[0] for face in mine], bool)
    sure_theirs = np.array([face.confidence >= SURE[1] for face in theirs], bool)
    size = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    face = np.zeros(len(boxes), bool)
    face[: len(mine)] = sure_mine & (same & sure_theirs[None]).any(axis=1)
    face &= size >= MIN_FACE_PX
    # What CenterFace sees of a face that YuNet sees too is that face.
    told = np.concatenate([np.ones(len(mine), bool), ~(same & face[: len(mine), None]).any(axis=0)])
    boxes, landmarks, face = boxes[told], landmarks[told], face[told]
    if face.any():
        views = [
            of + _mirrored(detectors, image) for of, detectors in zip(seen, looks, strict=True)
        ]
        for row in np.flatnonzero(face).tolist():
            landmarks[row] = _consensus(boxes[row], landmarks[row], views)
    return boxes, landmarks, face


def _mirrored(detectors: Sequence[FaceDetector], image: Image) -> list[Face]:
    """What these see of a picture's mirror image, brought back."""
    seen = []
    mirrored = np.ascontiguousarray(image[:, ::-1])
    width = image.shape[1]
    for face in (face for detector in detectors for face in detector.detect(mirrored)):
        left, top, right, bottom = face.box_xyxy
        points = face.landmarks[LANDMARKS_MIRRORED, :].copy()
        points[:, 0] = width - points[:, 0]
        box = np.array([width - right, top, width - left, bottom], np.float32)
        seen.append(Face(box, points, face.confidence))
    return seen


def _consensus(
    box: NDArray[np.float32], landmarks: NDArray[np.float32], views: Sequence[Sequence[Face]]
) -> NDArray[np.float32]:
    """(5, 2) the mean of what each teacher sees on average of the face in this box.

    One look alone is off by a tenth of the distance between the eyes: YuNet with 512 pixels against
    itself with 640.
    """
    means = []
    for seen in views:
        alike = [
            face.landmarks
            for face in seen
            if overlaps(box[None], face.box_xyxy[None])[0, 0] >= SAME_LANDMARKS
        ]
        if alike:
            means.append(np.mean(alike, axis=0))
    return np.asarray(np.mean(means, axis=0), np.float32) if means else landmarks


def label(
    archives: Sequence[Path], patterns: Sequence[str], yunet: Path, centerface: Path, most: int
) -> Labels:
    """Show every picture to both teachers, on all cores.

    Raises:
        ValueError: an archive has no such picture, or a network is another one.
    """
    wanted = pictures(archives, patterns, most)
    CenterFace(centerface)  # a wrong file is said here, and not by a process that dies
    judged: list[Judged] = []
    with ProcessPoolExecutor(initializer=_begin, initargs=(archives, yunet, centerface)) as pool:
        for number, one in enumerate(pool.map(_judge, *zip(*wanted, strict=True), chunksize=16)):
            if one is None:
                print(f"{archives[wanted[number][0]]}: {wanted[number][1]} is no picture, left out")
            else:
                judged.append(one)
            if (number + 1) % 500 == 0:
                faces = sum(int(one.certain.sum()) for one in judged)
                print(f"{number + 1} of {len(wanted)} pictures, {faces} faces", flush=True)
    member = np.array([one.member for one in judged])
    return Labels(
        archives=tuple(archives),
        archive=np.array([one.archive for one in judged], np.int64),
        member=member,
        shape=np.array([one.shape for one in judged], np.int64).reshape(-1, 2),
        alike=groups(np.array([one.hash for one in judged], np.uint64)),
        without_people=np.char.find(member, "without_people") >= 0,
        trusted=np.array([not Path(name).name.startswith(UNFIT) for name in member], bool),
        picture=np.repeat(np.arange(len(judged)), [len(one.box) for one in judged]),
        box=np.concatenate([one.box for one in judged]),
        landmarks=np.concatenate([one.landmarks for one in judged]),
        certain=np.concatenate([one.certain for one in judged]),
    )


_judges: list[Judge] = []  # of a process that labels


def _begin(archives: Sequence[Path], yunet: Path, centerface: Path) -> None:
    _judges[:] = [Judge(archives, yunet, centerface)]


def _judge(archive: int, member: str) -> Judged | None:
    return _judges[0].judge(archive, member)


def difference_hash(image: Image) -> int:
    """64 bits: whether each cell of a 9x8 picture is brighter than its right neighbour."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits = (grey[:, :-1] > grey[:, 1:]).reshape(-1)
    return int("".join("1" if bit else "0" for bit in bits), 2)


def groups(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(P,) a number that pictures share whose hashes differ by at most ``ALIKE`` bits, or by steps of it."""
    root = np.arange(len(hashes))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = int(root[i])
        return i

    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32)
    for i in range(len(hashes)):
        apart = np.abs(bits[i + 1 :] - bits[i]).sum(axis=1)
        for j in np.flatnonzero(apart <= ALIKE) + i + 1:
            root[find(int(j))] = find(i)
    return np.array([find(i) for i in range(len(hashes))], np.int64)


def save(labels: Labels, folder: Path) -> None:
    """Write ``labels.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: getattr(labels, name) for name in Labels.__dataclass_fields__}
    content["archives"] = np.array([str(path.resolve()) for path in labels.archives])
    np.savez_compressed(folder / FILE, **content)


def load(folder: Path) -> Labels:
    """Read ``labels.npz``.

    Raises:
        FileNotFoundError: the folder has none.
    """
    if not (folder / FILE).is_file():
        raise FileNotFoundError(
            f"{folder}: has no {FILE}; make it with python -m training.detector.label"
        )
    with np.load(folder / FILE, allow_pickle=False) as file:
        content = {name: file[name] for name in Labels.__dataclass_fields__}
    content["archives"] = tuple(Path(path) for path in content["archives"].tolist())
    return Labels(**content)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "pictures", nargs="+", help="zip files, each with :PATTERN of the paths in it if not all"
    )
    parser.add_argument(
        "--yunet", type=Path, required=True, help="face_detection_yunet_2023mar.onnx"
    )
    parser.add_argument(
        "--centerface", type=Path, required=True, help="centerface.onnx as published"
    )
    parser.add_argument(
        "--most", type=int, default=8000, help="pictures of each zip file, drawn with a seed"
    )
    parser.add_argument("--out", type=Path, required=True, help="gets labels.npz")
    args = parser.parse_args()
    sources = [text.partition(":") for text in args.pictures]
    try:
        labels = label(
            [Path(path) for path, _, _ in sources],
            [pattern or "*" for _, _, pattern in sources],
            args.yunet,
            args.centerface,
            args.most,
        )
        save(labels, args.out)
    except (OSError, ValueError, zipfile.BadZipFile, cv2.error) as error:
        parser.error(str(error))
    print(
        f"{args.out}: {len(labels.member)} pictures, {int(labels.certain.sum())} faces, "
        f"{int((~labels.certain).sum())} places left out"
    )


if __name__ == "__main__":
    main()
