"""What the detector learns from: canvases of labelled pictures, turned, scaled, put together and spoilt."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .label import LANDMARKS_MIRRORED, Labels, decoded
from .teachers import Image, overlaps

SIDE: Final = 320  # of a canvas
MOSAIC: Final = 0.45  # of the canvases are of four pictures
SIZES: Final = (14.0, 330.0)  # of the face that a picture is scaled by, in pixels of the canvas
LARGEST_SCALE: Final = 8.0  # what a closer look shows a face of 16 pixels with
FILLED: Final = 0.4  # of the single faces are the whole picture, as faces that were cut out are
STRETCH: Final = 0.08  # as the product stretches pictures, to multiples of 32
TRANSPARENT: Final = 0.7  # of the pictures end where they end; others' borders go on
LEAST_SEEN: Final = 0.45  # of a face: less of it is left out
SMALLEST: Final = 11.0  # pixels on the canvas: a smaller face is left out
TURN: Final = 12.0  # degrees, standard deviation;
FAR_TURN: Final = (0.08, 60.0)  # and of so many canvases
GREY, DIM, DARKEST, BLUR, NOISE, JPEG, COVER = 0.3, 0.2, -3.5, 0.2, 0.2, 0.3, 0.2
AROUND: Final = 0.7  # of the pictures that leave room have another one without people behind them
SHARES: Final = (0.5, 0.28, 0.22)  # of faces in scenes, what is none, single faces
BESIDE: Final = 0.1  # overlap with a labelled place up to which what was taken for a face is none


Region = tuple[int, int, int, int]
"""Left, top, right, bottom."""
Moved = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]
"""Boxes, landmarks, certain, trusted: see ``Canvas``."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture to learn from.

    Attributes:
        image: (SIDE, SIDE, 3) uint8 BGR.
        box: (N, 4) float32, corners x, y, x, y in pixels, inside the canvas.
        landmarks: (N, 5, 2) float32, also outside.
        certain: (N,) a face; else nothing is learnt from the cells that lie in the box.
        trusted: (N,) whether the landmarks are to be learnt.
    """

    image: Image
    box: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    certain: NDArray[np.bool_]
    trusted: NDArray[np.bool_]


def split(labels: Labels, part: str) -> NDArray[np.int64]:
    """Rows of the pictures of "train", "valid" or "test": those that look alike are in the same part."""
    scrambled = (
        (labels.alike.astype(np.uint64) * np.uint64(2654435761))
        % np.uint64(2**32)
        // np.uint64(2**29)
    )
    wanted = {"train": scrambled > 1, "valid": scrambled == 0, "test": scrambled == 1}[part]
    return np.flatnonzero(wanted)


def read(labels: Labels, rows: NDArray[np.int64]) -> list[Image]:
    """The pictures of these rows, (H, W, 3) uint8 BGR.

    Raises:
        ValueError: one is no picture any more.
    """
    found: dict[int, Image] = {}
    for index, path in enumerate(labels.archives):
        with zipfile.ZipFile(path) as archive:
            for row in rows[labels.archive[rows] == index].tolist():
                image = decoded(archive.read(str(labels.member[row])))
                if image is None:
                    raise ValueError(f"{path}: {labels.member[row]} is no picture any more")
                found[row] = image
    return [found[row] for row in rows.tolist()]


class Pictures:
    """Draws canvases from the labelled pictures of Train.

    Args:
        labels: as ``training.detector.label`` made them.

    Raises:
        ValueError: there is no face in them.
    """

    def __init__(self, labels: Labels) -> None:
        rows = split(labels, "train")
        self._labels, self._rows, self._images = labels, rows, read(labels, rows)
        order = np.argsort(labels.picture, kind="stable")
        bounds = np.searchsorted(labels.picture[order], np.arange(len(labels.member) + 1))
        self._faces = [order[bounds[row] : bounds[row + 1]] for row in rows]
        has_face = np.array([bool(labels.certain[faces].any()) for faces in self._faces])
        small = labels.shape[rows].max(1) <= 256
        alone = np.array([len(faces) == 1 for faces in self._faces]) & small
        self.scenes = np.flatnonzero(has_face & ~alone)
        self.singles = np.flatnonzero(has_face & alone)
        self.backgrounds = np.flatnonzero(labels.without_people[rows])
        self._searched = np.concatenate([self.backgrounds, self.scenes])
        self.taken_for_faces([np.zeros((0, 5), np.float32) for _ in self._searched], 0.0)
        there = [len(kind) > 0 for kind in (self.scenes, self.backgrounds, self.singles)]
        if not there[0] and not there[2]:
            raise ValueError("the labels have no face to learn from")
        self._shares = np.where(there, SHARES, 0.0) / np.where(there, SHARES, 0.0).sum()

    def searched(self) -> list[Image]:
        """The pictures without people, then the scenes: where to look for what is taken for a face."""
        return [self._images[i] for i in self._searched.tolist()]

    def taken_for_faces(self, places: list[NDArray[np.float32]], hard: float) -> float:
        """Show what was taken for a face and is none, the surer the more often, in all sizes of a face.

        Args:
            places: of each picture of ``searched``, (N, 5): how sure of each, 0 to 1, and corners x, y, x, y
                in pixels. In a scene those are left out that touch a place where a teacher sees a face.
            hard: times as often as a picture without people a place is shown that was taken for a face for
                sure.

        Returns:
            The share of the pictures in which there is such a place.
        """
        boxes = self._labels.box
        wrong = [
            seen[(overlaps(seen[:, 1:], boxes[self._faces[i]]) <= BESIDE).all(1)]
            for i, seen in zip(self._searched.tolist(), places, strict=True)
        ]
        surest = np.array([seen[:, 0].max(initial=0.0) for seen in wrong])
        often = self._labels.without_people[self._rows[self._searched]] + hard * surest
        self._often = often / max(often.sum(), 1e-9)
        self._taken = dict(zip(self._searched.tolist(), wrong, strict=True))
        return float(np.mean(surest > 0))

    def batches(self, steps: int, batch: int, seed: int) -> Iterator[list[Canvas]]:
        """So many batches, made in the background one after another."""
        with ThreadPoolExecutor(1) as pool:
            made = None
            for step in range(steps + 1):
                ahead = pool.submit(self.batch, batch, (seed, step)) if step < steps else None
                if made is not None:
                    yield made.result()
                made = ahead

    def batch(self, size: int, seed: tuple[int, int]) -> list[Canvas]:
        """Canvases, the same for the same seed."""
        rng = np.random.default_rng(seed)
        return [self.canvas(rng) for _ in range(size)]

    def canvas(self, rng: np.random.Generator) -> Canvas:
        """One picture, or four that share the canvas."""
        image = np.full((SIDE, SIDE, 3), rng.integers(0, 256, 3), np.uint8)
        if rng.random() < MOSAIC:
            x, y = (int(rng.uniform(0.3, 0.7) * SIDE) for _ in range(2))
            regions = [(0, 0, x, y), (x, 0, SIDE, y), (0, y, x, SIDE), (x, y, SIDE, SIDE)]
        else:
            regions = [(0, 0, SIDE, SIDE)]
        placed = [self._place(image, region, rng) for region in regions]
        box, landmarks, certain, trusted = (
            np.concatenate(parts) for parts in zip(*placed, strict=True)
        )
        return Canvas(_spoilt(image, box[certain], rng), box, landmarks, certain, trusted)

    def _place(self, canvas: Image, region: Region, rng: np.random.Generator) -> Moved:
        """Draw a picture onto a region of a canvas; its faces as in ``Canvas``."""
        index, box, fills = self._drawn(rng)
        image = self._images[index]
        aim = _aimed(image, box, region, rng, fills=fills)
        around = None
        if len(self.backgrounds) and rng.random() < AROUND:
            around = self._images[int(rng.choice(self.backgrounds))]
        repeats = rng.random() >= TRANSPARENT
        _draw(canvas, region, image, aim, around, repeats=repeats)
        trusted = bool(self._labels.trusted[self._rows[index]])
        return _moved(self._faces[index], self._labels, aim, region, trusted=trusted)

    def _drawn(self, rng: np.random.Generator) -> tuple[int, NDArray[np.float32] | None, bool]:
        """Index of a picture, the box in it of a face or of what was taken for one, whether it is to fill."""
        kind = int(rng.choice(3, p=self._shares))
        if kind == 1:
            index = int(rng.choice(self._searched, p=self._often))
            taken = self._taken[index]
            return index, taken[rng.integers(len(taken)), 1:] if len(taken) else None, False
        index = int(rng.choice(self.scenes if kind == 0 else self.singles))
        faces = self._faces[index]
        box = self._labels.box[rng.choice(faces[self._labels.certain[faces]])]
        return index, box, kind == 2 and rng.random() < FILLED


@dataclass(frozen=True, eq=False)
class _Aim:
    """How a picture is brought to a canvas.

    Attributes:
        matrix: (2, 3) from the picture's pixels to the canvas's.
        scale: of lengths, about.
        mirrored: whether left and right are exchanged.
    """

    matrix: NDArray[np.float64]
    scale: float
    mirrored: bool


def _aimed(
    image: Image,
    box: NDArray[np.float32] | None,
    region: Region,
    rng: np.random.Generator,
    *,
    fills: bool,
) -> _Aim:
    """A size, a place, a turn; by the ``box`` of a face, or of what was taken for one, if there is one.

    A picture that ``fills`` the region is there as a whole, about.
    """
    left, top, right, bottom = region
    room = min(right - left, bottom - top)
    target = 0.0
    if fills:
        scale = room / max(image.shape[:2]) * math.exp(rng.normal() * 0.1)
        middle, target = np.array(image.shape[1::-1]) / 2, room
    elif box is not None:
        x0, y0, x1, y1 = box.tolist()
        target = math.exp(rng.uniform(math.log(SIZES[0]), math.log(SIZES[1] * room / SIDE)))
        scale = min(target / math.sqrt((x1 - x0) * (y1 - y0)), LARGEST_SCALE)
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    else:
        scale = room / max(image.shape[:2]) * math.exp(rng.uniform(-0.3, 1.2))
        middle = rng.random(2) * image.shape[1::-1]
    # A large face fills the region from its middle, a small one may lie anywhere.
    loose = max(0.15, 1 - target / room)
    where = np.array([left, top]) + np.array([right - left, bottom - top]) * (
        0.5 + loose * (rng.random(2) - 0.5)
    )
    far = rng.random() < FAR_TURN[0]
    turn = math.radians(rng.uniform(-1, 1) * FAR_TURN[1] if far else rng.normal() * TURN)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    stretch = math.exp(rng.normal() * STRETCH)
    cosine, sine = math.cos(turn), math.sin(turn)
    linear = scale * np.array(
        [[cosine * mirror * stretch, -sine * stretch], [sine * mirror / stretch, cosine / stretch]]
    )
    return _Aim(np.column_stack([linear, where - linear @ middle]), scale, mirror < 0)


def _draw(
    canvas: Image, region: Region, image: Image, aim: _Aim, around: Image | None, *, repeats: bool
) -> None:
    """A picture, in front of another one if there is one; or its border goes on to the region's edge."""
    left, top, right, bottom = region
    matrix = np.vstack([aim.matrix, [0, 0, 1]])
    matrix[:2, 2] -= (left, top)
    if aim.scale < 0.6:  # fine structure must not fold over
        factor = max(aim.scale * 1.2, 0.05)
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([*np.divide(image.shape[1::-1], small.shape[1::-1]), 1])
        image = np.asarray(small, np.uint8)
    part = canvas[top:bottom, left:right]
    if around is not None:
        part[:] = cv2.resize(around, part.shape[1::-1], interpolation=cv2.INTER_AREA)
    border = cv2.BORDER_REPLICATE if repeats else cv2.BORDER_TRANSPARENT
    part[:] = cv2.warpAffine(
        image, matrix[:2], part.shape[1::-1], part.copy(), cv2.INTER_LINEAR, border
    )


def _moved(
    faces: NDArray[np.int64], labels: Labels, aim: _Aim, region: Region, *, trusted: bool
) -> Moved:
    """Boxes, landmarks, which are certain and which trusted, of the faces that are seen in the region."""
    box = labels.box[faces]
    matrix = aim.matrix
    centre = (box[:, :2] + box[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = (box[:, 2:] - box[:, :2]) / 2 * aim.scale
    whole = np.concatenate([centre - half, centre + half], axis=1)
    seen = np.concatenate(
        [np.maximum(whole[:, :2], region[:2]), np.minimum(whole[:, 2:], region[2:])], axis=1
    )
    area = np.prod(np.maximum(seen[:, 2:] - seen[:, :2], 0), axis=1)
    share = area / np.maximum(np.prod(2 * half, axis=1), 1e-6)
    points = labels.landmarks[faces] @ matrix[:, :2].T + matrix[:, 2]
    if aim.mirrored:
        points = points[:, LANDMARKS_MIRRORED]
    kept = area > 0
    sure = labels.certain[faces] & (share >= LEAST_SEEN) & (np.sqrt(area) >= SMALLEST)
    return (
        seen[kept].astype(np.float32),
        points[kept].astype(np.float32),
        sure[kept],
        np.full(int(kept.sum()), trusted),
    )


def _spoilt(image: Image, faces: NDArray[np.float32], rng: np.random.Generator) -> Image:
    """Covered, grey, relit, blurred, noisy, compressed: each of some canvases."""
    for left, top, right, bottom in faces.tolist():
        if rng.random() < COVER:  # the lower or a side half
            width, height = right - left, bottom - top
            x, y = left + rng.uniform(-0.2, 0.7) * width, top + rng.uniform(0.3, 0.8) * height
            corner = (
                int(x + rng.uniform(0.2, 1.0) * width),
                int(y + rng.uniform(0.2, 0.6) * height),
            )
            cv2.rectangle(image, (int(x), int(y)), corner, rng.integers(0, 256, 3).tolist(), -1)
    if rng.random() < GREY:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)
    pixels = image.astype(np.float32) / 255
    if rng.random() < 0.8:
        pixels = np.clip(
            (pixels - 0.5) * math.exp(rng.normal() * 0.25) + 0.5 + rng.normal() * 0.12, 0, 1
        )
        pixels = pixels ** math.exp(rng.normal() * 0.3)
        pixels = np.clip(pixels * np.exp(rng.normal(size=3) * 0.1).astype(np.float32), 0, 1)
    if rng.random() < DIM:
        pixels = np.rint(pixels * 2 ** rng.uniform(DARKEST, 0) * 255) / 255
    if rng.random() < NOISE:
        pixels = np.clip(
            pixels + rng.standard_normal(pixels.shape, np.float32) * rng.uniform(0.01, 0.06), 0, 1
        )
    done = np.rint(pixels * 255).astype(np.uint8)
    if rng.random() < BLUR:
        if rng.random() < 0.5:
            done = np.asarray(cv2.GaussianBlur(done, (0, 0), rng.uniform(0.5, 2.0)), np.uint8)
        else:  # of motion
            length = int(rng.integers(3, 10))
            kernel = np.zeros((length, length), np.float32)
            angle = rng.uniform(0, math.pi)
            ends = [
                (length - 1) / 2 * (1 + s * f(angle)) for s in (-1, 1) for f in (math.cos, math.sin)
            ]
            cv2.line(
                kernel, (round(ends[0]), round(ends[1])), (round(ends[2]), round(ends[3])), 1.0
            )
            done = np.asarray(cv2.filter2D(done, -1, kernel / kernel.sum()), np.uint8)
    if rng.random() < JPEG:
        packed = cv2.imencode(".jpg", done, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[
            1
        ]
        done = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return done
