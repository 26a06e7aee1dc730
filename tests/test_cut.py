"""A small network that begins as a larger one, cut down; needs the extra ``train``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra 'train' is not installed")

from torch import Tensor, nn  # noqa: E402

from training import face  # noqa: E402
from training.cut import can_cut, cut  # noqa: E402
from training.network import ARCHITECTURES, FaceNetwork  # noqa: E402
from training.pretrained import fix_norms  # noqa: E402

from .caches import face_cache  # noqa: E402

WIDE, LITE = ARCHITECTURES["resnet-wide"], ARCHITECTURES["resnet-lite"]
SETTINGS = face.Settings(epochs=1, batch=35, warmup_epochs=1, average_decay=0.5, rate=1e-9)
FIRST = [sum(WIDE.blocks[:stage]) for stage in range(4)]  # block of each of the wide one's stages


def pixels(seed: int) -> Tensor:
    return torch.randn(24, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def wide() -> FaceNetwork:
    """With first weights, and the batch norms of ``pixels(0)``."""
    torch.manual_seed(0)
    network = FaceNetwork("resnet-wide").eval()
    with torch.no_grad():
        fix_norms(network, {}, pixels(0))
    return network


def out_of(network: FaceNetwork) -> dict[str, Tensor]:
    with torch.no_grad():
        said: dict[str, Tensor] = network.eval()(pixels(1))
    return said


def assert_says_the_same(one: FaceNetwork, other: FaceNetwork) -> None:
    there = out_of(other)
    for name, value in out_of(one).items():
        torch.testing.assert_close(value, there[name], rtol=1e-3, atol=1e-4)


def test_of_a_network_as_large_nothing_is_left_out() -> None:
    larger, network = wide(), FaceNetwork("resnet-wide")
    cut(larger, network, pixels(0))
    assert_says_the_same(network, larger)


def test_what_is_left_out_is_what_does_nothing() -> None:
    """A larger network whose surplus blocks and channels are idle is cut down without a loss."""
    larger = wide()
    idle = torch.randperm(256, generator=torch.Generator().manual_seed(2))[: 256 - LITE.widths[3]]
    inner_idle = torch.randperm(256, generator=torch.Generator().manual_seed(3))[: len(idle)]
    with torch.no_grad():
        larger.widen[0].weight[:, idle] = 0
        larger.stages[FIRST[3]].conv2[0].weight[:, inner_idle] = 0
        # Second of three, third of four; none of the third stage; all but the first of the last.
        for block in (FIRST[0] + 1, FIRST[1] + 2, FIRST[3] + 1, FIRST[3] + 2):
            norm = larger.stages[block].conv2[1]
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)
        fix_norms(larger, {}, pixels(0))
    network = FaceNetwork("resnet-lite")
    cut(larger, network, pixels(0))
    assert_says_the_same(network, larger)


def test_only_blocks_and_channels_can_be_left_out() -> None:
    assert can_cut(WIDE, LITE)
    assert can_cut(LITE, LITE)
    assert not can_cut(LITE, WIDE)
    assert not can_cut(ARCHITECTURES["resnet18"], LITE)
    for other in (
        {"size": 48},
        {"stem": (7, 2)},
        {"centred": False},
        {"widths": (16, 64, 128, 176)},
    ):
        assert not can_cut(WIDE, dataclasses.replace(LITE, **other))


def test_a_run_may_start_from_a_larger_network(tmp_path: Path) -> None:
    faces = face_cache(tmp_path / "striped")
    larger = face.train(
        [faces], tmp_path / "wide", dataclasses.replace(SETTINGS, architecture="resnet-wide")
    )
    smaller = face.train([faces], tmp_path / "lite", SETTINGS, face.Origin(tmp_path / "wide"))
    torch.testing.assert_close(
        smaller.stages[0].conv1[0].weight, larger.stages[0].conv1[0].weight, rtol=0, atol=1e-5
    )
    recorded = json.loads((tmp_path / "lite" / "settings.json").read_text())
    assert recorded["architecture"] == "resnet-lite"
    assert recorded["start"]["run"] == "wide"
    with pytest.raises(ValueError, match="start resnet-lite from a resnet-wide"):
        face.train(
            [faces], tmp_path / "again", dataclasses.replace(SETTINGS, architecture="resnet-wide"),
            face.Origin(tmp_path / "lite"),
        )  # fmt: skip
