"""First weights from dlib's network, held against its own arithmetic; needs the extra ``train``."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402

from training import face, fit, pretrained  # noqa: E402
from training.network import ARCHITECTURES, FaceNetwork  # noqa: E402
from training.pretrained import Layer, adopt, read_dlib  # noqa: E402

from .caches import face_cache, striped  # noqa: E402

CHANNELS = (3, 32, *[32] * 6, *[64] * 8, *[128] * 6, *[256] * 8)
MEAN, STD = 0.5, 0.25


def made_layers() -> list[Layer]:
    """Convolutions of dlib's shapes with numbers of our own."""
    rng = np.random.default_rng(0)
    layers = []
    for number, (channels_in, channels) in enumerate(pairwise(CHANNELS)):
        side = 7 if number == 0 else 3
        filters = rng.normal(
            0, 1.4 / np.sqrt(channels_in * side**2), (channels, channels_in, side, side)
        )
        parts = (
            filters,
            rng.normal(0, 0.1, channels),
            rng.uniform(0.5, 1.5, channels),
            rng.normal(0, 0.1, channels),
        )
        layers.append(Layer(*(torch.from_numpy(part.astype(np.float32)) for part in parts)))
    return layers


def written(layers: list[Layer]) -> bytes:
    """As dlib writes them: names, integers as their length and bytes, floats."""

    def integer(value: int) -> bytes:
        some = value.to_bytes(4, "little").rstrip(b"\0") or b"\0"
        return bytes([len(some)]) + some

    def tensor(*values: Tensor) -> bytes:
        numbers = torch.cat([value.flatten() for value in values]).numpy().astype("<f4")
        return b"".join(map(integer, (2, len(numbers), 1, 1, 1))) + bytes(numbers.tobytes())

    parts = [b"\1\1loss_metric_2"]
    for filters, bias, factor, added in layers:
        parts += [b"\5con_4", tensor(filters, bias), b"\1\1"]
        parts += [b"\7affine_", tensor(factor, added), b"\5relu_"]
    return b"".join(parts)


def test_the_published_file_is_read_as_dlib_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dlib.dat"
    path.write_bytes(written(made_layers()))
    monkeypatch.setattr(pretrained, "DLIB_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    for read, made in zip(read_dlib(path), made_layers(), strict=True):
        for one, other in zip(read, made, strict=True):
            assert torch.equal(one, other)


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="face_recognition_models"):
        read_dlib(tmp_path / "nothing.dat")
    (tmp_path / "other.dat").write_bytes(written(made_layers()))
    with pytest.raises(ValueError, match="not dlib_face_recognition"):
        read_dlib(tmp_path / "other.dat")


def dlib_stem(pixels: Tensor, layer: Layer) -> Tensor:
    """Of (N, 1, S, S) grey in [0, 1]: twice as large, in three colours, 7x7 with a step of 2."""
    twice = functional.interpolate(pixels, scale_factor=2, mode="bilinear", align_corners=False)
    mean = torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1)
    x = (255 * twice.repeat(1, 3, 1, 1) - mean) / 256
    return affine(functional.conv2d(x, layer.filters, layer.bias, 2, 3), layer)


def affine(x: Tensor, layer: Layer) -> Tensor:
    changed: Tensor = x * layer.factor.view(1, -1, 1, 1) + layer.added.view(1, -1, 1, 1)
    return changed


def dlib_block(x: Tensor, first: Layer, second: Layer, *, halves: bool) -> Tensor:
    """dlib halves without padding, and its shortcut is a mean of 2x2 beside channels of zeros."""
    if halves:
        inner = functional.pad(x, (0, 1, 0, 1))
        inner = functional.conv2d(inner, first.filters, first.bias, 2)
        x = functional.avg_pool2d(x, 2)
        x = functional.pad(x, (0, 0, 0, 0, 0, inner.shape[1] - x.shape[1]))
    else:
        inner = functional.conv2d(x, first.filters, first.bias, 1, 1)
    inner = torch.relu(affine(inner, first))
    inner = functional.conv2d(inner, second.filters, second.bias, 1, 1)
    summed: Tensor = torch.relu(affine(inner, second) + x)
    return summed


# Which of dlib's blocks each of ours is: a shorter stage leaves out those before the last.
@pytest.mark.parametrize(
    ("name", "numbers"),
    [("resnet-wide", list(range(13))), ("resnet-lite", [0, 2, 3, 4, 6, 7, 8, 9])],
)
def test_the_network_begins_as_dlibs(name: str, numbers: list[int]) -> None:
    torch.manual_seed(0)
    network, layers = FaceNetwork(name), made_layers()
    faces = torch.from_numpy(striped(np.arange(14) % 7))
    adopt(network, layers, faces, MEAN, STD)
    pixels = faces[:, None].float() / 255
    with torch.no_grad():
        here = network.stem((pixels - MEAN) / STD)
        there = dlib_stem(pixels, layers[0])
        inside = (slice(None), slice(None), slice(3, -3), slice(3, -3))  # padding is ours
        torch.testing.assert_close(here[inside], there[inside], rtol=1e-3, atol=1e-3)
        x = network.pool(torch.relu(here))
        for block, number in zip(network.stages, numbers, strict=False):
            first, second = layers[1 + 2 * number], layers[2 + 2 * number]
            wanted = dlib_block(x, first, second, halves=number in (3, 7, 10))
            x = block(x)
            torch.testing.assert_close(x, wanted, rtol=2e-3, atol=2e-3)


def test_a_run_that_starts_from_dlibs_network_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dlib.dat"
    path.write_bytes(written(made_layers()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for module in (pretrained, face):
        monkeypatch.setattr(module, "DLIB_SHA256", digest)
    faces = face_cache(tmp_path / "striped")
    settings = fit.Settings(
        architecture="resnet-lite",
        epochs=1,
        batch=35,
        warmup_epochs=1,
        average_decay=0.5,
        rate=1e-9,
    )
    network = face.train([faces], tmp_path / "run", settings, face.Origin(pretrained=path))
    filters = made_layers()[1].filters
    torch.testing.assert_close(
        network.state_dict()["stages.0.conv1.0.weight"], filters, rtol=1e-4, atol=1e-4
    )
    assert digest in (tmp_path / "run" / "settings.json").read_text()


def test_a_wider_network_begins_as_dlibs_in_its_first_channels() -> None:
    """``resnet18`` has dlib's own stem, and twice its channels: the first half computes what dlib does."""
    torch.manual_seed(0)
    network, layers = FaceNetwork("resnet18", size=64), made_layers()
    faces = torch.from_numpy(striped(np.arange(14) % 7))
    adopt(network, layers, faces, MEAN, STD)
    pixels = faces[:, None].float() / 255
    with torch.no_grad():
        here = network.stem((pixels - MEAN) / STD)
        mean = torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1)
        x = (255 * pixels.repeat(1, 3, 1, 1) - mean) / 256
        there = affine(functional.conv2d(x, layers[0].filters, layers[0].bias, 2, 3), layers[0])
        inside = (slice(None), slice(32), slice(3, -3), slice(3, -3))  # padding is ours
        torch.testing.assert_close(here[inside], there[inside], rtol=1e-3, atol=1e-3)
        x = network.pool(torch.relu(here))
        # The first stage does not halve: dlib's first and last block of three.
        for block, number in zip(network.stages, (0, 2), strict=False):
            first, second = layers[1 + 2 * number], layers[2 + 2 * number]
            wanted = dlib_block(x[:, :32], first, second, halves=False)
            x = block(x)
            torch.testing.assert_close(x[:, :32], wanted, rtol=2e-3, atol=2e-3)
        assert x[:, 32:].std() > 0.1  # the others are free to learn


def test_a_file_that_is_another_leaves_no_run_behind(tmp_path: Path) -> None:
    faces = face_cache(tmp_path / "striped")
    (tmp_path / "other.dat").write_bytes(b"no network")
    origin = face.Origin(pretrained=tmp_path / "other.dat")
    settings = fit.Settings(architecture="resnet-lite", epochs=1, batch=35)
    with pytest.raises(ValueError, match="not dlib"):
        face.train([faces], tmp_path / "run", settings, origin)
    assert not (tmp_path / "run").exists()


def test_a_stem_that_dlib_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 1\) cannot start from dlib's"):
        pretrained.check_shape(replace(ARCHITECTURES["resnet-lite"], stem=(3, 1)))
