"""Augmentation of whole batches of grey faces, as tensor operations on the training device [2.1].

Jitter, rotation and cutout are the paper's; blur, noise and light stand for the cameras that the
training faces, 48-pixel pictures from the web, were not taken with.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = math.radians(15)
ZOOM = 0.15
SHIFT = 0.08  # of the side, each way
CONTRAST = 0.4
BRIGHTNESS = 0.2
NOISE = 0.03
DIM = 0.2  # of the faces
DARKEST = -4.0  # exposures: a sixteenth of the light
CUTOUT = (0.15, 0.4)  # of the side


def augment(faces: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Change each of (N, 1, S, S) float32 faces in [0, 1] in its own way; same shape and range.

    Args:
        faces: are left alone.
        generator: on the faces' device.
        strength: of every change, and how often a face is softened, noisy, cut out; half of all faces are
            mirrored at any strength above 0. At 0 they are given back as they are.
    """
    if strength == 0:
        return faces
    faces = _move(faces, generator, strength)
    faces = _soften(faces, generator, strength)
    faces = _relight(faces, generator, strength)
    return _cut_out(faces, generator, strength)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def _chance(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """(N, 1, 1, 1) bool."""
    return (torch.rand(count, generator=generator, device=generator.device) < probability)[
        :, None, None, None
    ]


def _move(faces: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Mirror, rotate, zoom and shift, in one sampling."""
    count = len(faces)
    angle = _uniform(count, -ROTATION, ROTATION, generator) * strength
    zoom = torch.exp(_uniform(count, -ZOOM, ZOOM, generator) * strength)
    mirror = torch.sign(_uniform(count, -1, 1, generator))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift = _uniform(2 * count, -2 * SHIFT, 2 * SHIFT, generator).view(count, 2, 1) * strength
    matrix = torch.stack([cos * mirror, -sin, sin * mirror, cos], 1).view(count, 2, 2)
    grid = functional.affine_grid(
        torch.cat([matrix, shift], 2), list(faces.shape), align_corners=False
    )
    return functional.grid_sample(faces, grid, padding_mode="border", align_corners=False)


def _soften(faces: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Take the fine detail of some faces away, as a small or blurred face in a picture has none."""
    side = faces.shape[-1]
    small = int(_uniform(1, 0.4, 0.8, generator) * side)
    shrunk = functional.interpolate(faces, size=small, mode="bilinear", antialias=True)
    blurred = functional.interpolate(shrunk, size=side, mode="bilinear")
    return torch.where(_chance(len(faces), 0.25 * strength, generator), blurred, faces)


def _relight(faces: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Contrast, brightness, gamma, too little light and sensor noise."""
    count = len(faces)
    view = (count, 1, 1, 1)
    contrast = torch.exp(_uniform(count, -CONTRAST, CONTRAST, generator) * strength).view(view)
    brightness = _uniform(count, -BRIGHTNESS, BRIGHTNESS, generator).view(view) * strength
    gamma = torch.exp(_uniform(count, -CONTRAST, CONTRAST, generator) * strength).view(view)
    mean = faces.mean((1, 2, 3), keepdim=True)
    faces = ((faces - mean) * contrast + mean + brightness).clamp(0, 1) ** gamma
    dimmed = faces * torch.exp2(_uniform(count, DARKEST, 0, generator)).view(view)
    levels = torch.round(dimmed * 255) / 255  # few of them are left
    faces = torch.where(_chance(count, DIM * strength, generator), levels, faces)
    noise = torch.randn(faces.shape, generator=generator, device=generator.device) * NOISE
    return torch.where(
        _chance(count, 0.3 * strength, generator), (faces + noise).clamp(0, 1), faces
    )


def _cut_out(faces: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Replace a square of half of the faces by the face's mean (DeVries and Taylor 2017)."""
    count, _, height, width = faces.shape
    side = _uniform(count, *CUTOUT, generator)[:, None, None, None]
    x = _uniform(count, 0, 1, generator)[:, None, None, None]
    y = _uniform(count, 0, 1, generator)[:, None, None, None]
    columns = torch.linspace(0, 1, width, device=faces.device).view(1, 1, 1, width)
    rows = torch.linspace(0, 1, height, device=faces.device).view(1, 1, height, 1)
    inside = ((columns - x).abs() < side / 2) & ((rows - y).abs() < side / 2)
    inside &= _chance(count, 0.5 * strength, generator)
    return torch.where(inside, faces.mean((1, 2, 3), keepdim=True), faces)
