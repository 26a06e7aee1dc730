"""How the detector learns: two teachers' labels, canvases that move both alike, a loss that fits."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from occam_sdk.types import Face  # noqa: E402
from training.detector import __main__ as module  # noqa: E402
from training.detector import network as network_module  # noqa: E402
from training.detector import pictures  # noqa: E402
from training.detector.__main__ import Settings, load_detector, train  # noqa: E402
from training.detector.judge import Tally  # noqa: E402
from training.detector.label import (  # noqa: E402
    LONG_SIDES,
    Image,
    Labels,
    difference_hash,
    groups,
    judge,
    load,
    save,
)
from training.detector.loss import as_input, distance_loss, loss, targets  # noqa: E402
from training.detector.network import DetectorNetwork, adopt, cost  # noqa: E402
from training.detector.pictures import SIDE, Canvas, Pictures, split  # noqa: E402
from training.detector.teachers import CenterFace, merged, overlaps, read_centerface  # noqa: E402

POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)


def face(left: float, top: float, size: float, confidence: float = 0.9) -> Face:
    """A square face with its landmarks in their usual places."""
    box = np.array([left, top, left + size, top + size], np.float32)
    return Face(box, POINTS * np.float32(size) + box[:2], confidence)


class Sees:
    """A detector that always sees the same."""

    def __init__(self, *faces: Face) -> None:
        self._faces = faces

    def detect(self, image: Image) -> tuple[Face, ...]:
        assert image.dtype == np.uint8
        return self._faces


def teacher(*faces: Face) -> dict[int, Sees]:
    return dict.fromkeys(LONG_SIDES, Sees(*faces))


PICTURE = np.zeros((200, 300, 3), np.uint8)


def test_a_face_is_what_both_teachers_see() -> None:
    boxes, _, certain = judge(PICTURE, teacher(face(10, 10, 40)), teacher(face(8, 8, 46)))
    assert certain.tolist() == [True]
    assert boxes[0].tolist() == [10, 10, 50, 50], "YuNet's"


@pytest.mark.parametrize(
    ("yunet", "centerface"),
    [
        ([face(10, 10, 40)], []),
        ([], [face(10, 10, 40)]),
        ([face(10, 10, 40, 0.4)], [face(10, 10, 40)]),
        ([face(10, 10, 40)], [face(10, 10, 40, 0.26)]),
        ([face(10, 10, 10)], [face(10, 10, 10)]),
    ],
    ids=["YuNet alone", "CenterFace alone", "YuNet unsure", "CenterFace unsure", "too small"],
)
def test_what_is_not_sure_is_a_place_to_leave_out(
    yunet: list[Face], centerface: list[Face]
) -> None:
    _, _, certain = judge(PICTURE, teacher(*yunet), teacher(*centerface))
    assert len(certain) > 0
    assert not certain.any()


def test_landmarks_are_the_mean_of_what_both_teachers_see() -> None:
    """The mirror image of what always sees the same lies elsewhere, and does not count."""
    theirs = Face(face(10, 10, 40).box_xyxy, face(14, 12, 40).landmarks, 0.9)
    _, landmarks, certain = judge(PICTURE, teacher(face(10, 10, 40)), teacher(theirs))
    assert certain.tolist() == [True]
    np.testing.assert_allclose(landmarks[0], POINTS * 40 + [12, 11], rtol=1e-5)


def test_landmarks_count_that_are_seen_in_the_mirror_image() -> None:
    class Mirrored:
        """Sees a face in the middle, a little to the right of where it is."""

        def detect(self, image: Image) -> tuple[Face, ...]:
            assert image.shape == PICTURE.shape
            seen = face(130, 80, 40)
            return (Face(seen.box_xyxy, seen.landmarks + np.float32([2, 0]), 0.9),)

    both = dict.fromkeys(LONG_SIDES, Mirrored())
    _, landmarks, _ = judge(PICTURE, both, both)
    np.testing.assert_allclose(landmarks[0], POINTS * 40 + [130, 80], rtol=1e-5)


def test_two_places_of_one_teacher_each_are_both_left_out() -> None:
    boxes, _, certain = judge(PICTURE, teacher(face(10, 10, 40)), teacher(face(150, 10, 40)))
    assert boxes[:, 0].tolist() == [10, 150]
    assert not certain.any()


def test_a_face_seen_at_two_sizes_is_one() -> None:
    found = merged([face(10, 10, 40, 0.6), face(11, 10, 40, 0.8)])
    assert [one.confidence for one in found] == [0.8]


def test_no_network_is_refused_as_centerface(tmp_path: Path) -> None:
    (tmp_path / "c.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"c.onnx: expected CenterFace as published, SHA-256"):
        CenterFace(tmp_path / "c.onnx")


def test_centerface_is_read_as_its_authors_write_it() -> None:
    """y before x; in the cell of row 2, column 3: 16 wide, 24 high; landmarks in shares of the box."""
    heat, log_size, offset = (np.zeros((n, 4, 6), np.float32) for n in (1, 2, 2))
    points = np.zeros((10, 4, 6), np.float32)
    heat[0, 2, 3], heat[0, 1, 1] = 0.9, 0.3
    log_size[:, 2, 3] = np.log([24 / 4, 16 / 4])
    offset[:, 2, 3] = 0.25, -0.25
    points[:, 2, 3] = np.tile([0.5, 0.25], 5)
    boxes, landmarks, scores = read_centerface(heat[0], log_size, offset, points, 0.4)
    half = np.array([8, 12])
    centre = np.array([(3 + 0.5 - 0.25) * 4, (2 + 0.5 + 0.25) * 4])
    np.testing.assert_allclose(boxes, [np.concatenate([centre - half, centre + half])])
    np.testing.assert_allclose(landmarks, [np.tile(centre - [half[0] / 2, 0], (5, 1))])
    assert scores.tolist() == [np.float32(0.9)]


def test_another_file_than_yunet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "y.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"y.onnx: expected YuNet of March 2023, SHA-256"):
        adopt(DetectorNetwork(), tmp_path / "y.onnx")


def test_pictures_that_look_alike_share_a_part() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 90, 80, 3)).astype(np.uint8)
    one = cv2.GaussianBlur(one, (0, 0), 9)
    brighter = np.clip(cv2.resize(one, (60, 70)).astype(int) + 10, 0, 255).astype(np.uint8)
    hashes = np.array([difference_hash(x) for x in (one, other, brighter)], np.uint64)
    group = groups(hashes)
    assert group[0] == group[2] != group[1]


def scene(tmp_path: Path, count: int = 24) -> Labels:
    """Noise with a bright disc for a face in two of three pictures; half of the others without people."""
    rng = np.random.default_rng(1)
    names, boxes, rows = [], [], []
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for number in range(count):
            image = rng.integers(0, 60, (120, 160, 3)).astype(np.uint8)
            kind = "without_people" if number % 3 == 0 else "with_people"
            if kind == "with_people":
                x, y, r = (
                    int(v)
                    for v in (rng.integers(40, 120), rng.integers(40, 80), rng.integers(14, 30))
                )
                cv2.circle(image, (x, y), r, (200, 220, 240), -1)
                boxes.append([x - r, y - r, x + r, y + r])
                rows.append(number)
            names.append(f"{kind}/{number}.png")
            archive.writestr(names[-1], cv2.imencode(".png", image)[1].tobytes())
    box = np.array(boxes, np.float32)
    size = (box[:, 2:] - box[:, :2])[:, None]
    return Labels(
        archives=(tmp_path / "s.zip",),
        archive=np.zeros(count, np.int64),
        member=np.array(names),
        shape=np.tile(np.array([120, 160]), (count, 1)),
        alike=np.arange(count),
        without_people=np.char.startswith(np.array(names), "without"),
        trusted=np.ones(count, bool),
        picture=np.array(rows),
        box=box,
        landmarks=(POINTS * size + box[:, None, :2]).astype(np.float32),
        certain=np.ones(len(box), bool),
    )


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    labels = scene(tmp_path)
    save(labels, tmp_path / "out")
    again = load(tmp_path / "out")
    assert again.archives == labels.archives
    for name in Labels.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))
    with pytest.raises(FileNotFoundError, match=r"training.detector.label"):
        load(tmp_path)


def test_parts_share_nothing_and_keep_groups_together(tmp_path: Path) -> None:
    labels = scene(tmp_path, 90)
    labels.alike[:] = np.arange(90) // 3
    parts = [split(labels, part).tolist() for part in ("train", "valid", "test")]
    assert sorted(functools.reduce(operator.iadd, parts, [])) == list(range(90))
    assert all(parts)
    for part in parts:
        assert {row // 3 * 3 + i for row in part for i in range(3)} == set(part)


def test_canvases_move_faces_and_their_labels_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_spoilt", lambda image, *_: image)
    drawn = Pictures(scene(tmp_path)).batch(60, (0, 0))
    seen = 0
    for canvas in drawn:
        assert canvas.image.shape == (SIDE, SIDE, 3)
        assert (canvas.box >= 0).all()
        assert (canvas.box <= SIDE).all()
        for box, points in zip(
            canvas.box[canvas.certain], canvas.landmarks[canvas.certain], strict=True
        ):
            x, y = points[
                2
            ].tolist()  # the nose is in the disc, wherever it was moved, turned, mirrored
            if 3 < x < SIDE - 4 and 3 < y < SIDE - 4 and (box[2:] - box[:2]).min() > 24:
                assert canvas.image[int(y), int(x)].min() > 150
                seen += 1
    assert seen > 40


def test_canvases_of_a_seed_are_the_same(tmp_path: Path) -> None:
    pictures = Pictures(scene(tmp_path))
    one, again, other = (pictures.batch(3, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert all((a.image == b.image).all() for a, b in zip(one, again, strict=True))
    assert any((a.image != b.image).any() for a, b in zip(one, other, strict=True))


def spots(labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures have their number for a colour, and a white spot of ten pixels; no faces are drawn."""
    monkeypatch.setattr(pictures, "_spoilt", lambda image, *_: image)
    monkeypatch.setattr(pictures, "SHARES", (0.0, 1.0, 0.0))
    monkeypatch.setattr(pictures, "MOSAIC", 0.0)
    monkeypatch.setattr(pictures, "AROUND", 0.0)
    with zipfile.ZipFile(labels.archives[0], "w") as archive:
        for number, name in enumerate(labels.member.tolist()):
            image = np.full((120, 160, 3), number, np.uint8)
            image[20:30, 20:30] = 255
            archive.writestr(name, cv2.imencode(".png", image)[1].tobytes())


def spot_sizes(canvases: list[Canvas], number: int) -> list[float]:
    """Of the canvases that show the picture of this number."""
    shown = [canvas.image for canvas in canvases if (canvas.image == number).all(2).any()]
    return [float(np.sqrt((image == 255).all(2).sum())) for image in shown]


def test_what_was_taken_for_a_face_is_shown_more_often_and_in_a_faces_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = scene(tmp_path)
    spots(labels, monkeypatch)
    drawn = Pictures(labels)
    seen = [np.zeros((0, 5), np.float32) for _ in drawn.searched()]
    seen[1] = np.array([[0.9, 20, 20, 30, 30]], np.float32)
    assert drawn.taken_for_faces(seen, 1000.0) == pytest.approx(1 / len(seen))
    canvases = drawn.batch(40, (0, 0))
    sizes = spot_sizes(canvases, int(split(labels, "train")[drawn.backgrounds[1]]))
    assert len(sizes) > 30
    assert min(sizes) > 7
    assert max(sizes) > 70, "ten pixels, up to eight times as large"
    assert not any(len(canvas.box) for canvas in canvases)


def test_so_is_what_was_taken_for_a_face_beside_those_of_a_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = scene(tmp_path)
    labels = replace(labels, shape=labels.shape * 3)  # too large for a face that was cut out
    spots(labels, monkeypatch)
    drawn = Pictures(labels)
    seen = [np.zeros((0, 5), np.float32) for _ in drawn.searched()]
    number = int(split(labels, "train")[drawn.scenes[2]])
    (face,) = labels.box[labels.picture == number]
    seen[len(drawn.backgrounds) + 2] = np.array([[0.9, 20, 20, 30, 30], [0.99, *face]], np.float32)
    drawn.taken_for_faces(seen, 1000.0)
    canvases = drawn.batch(40, (0, 0))
    sizes = spot_sizes(canvases, number)
    assert len(sizes) > 30
    assert min(sizes) > 7, "the spot is looked at, not the face"
    assert max(sizes) > 70
    assert any(len(canvas.box) for canvas in canvases), "a face is one still"


@pytest.mark.parametrize("certain", [True, False])
def test_what_a_teacher_sees_too_was_not_taken_wrongly(tmp_path: Path, certain: bool) -> None:
    """Also a place that one of both alone sees, from which nothing is learnt."""
    labels = scene(tmp_path)
    count = len(labels.box)
    spot = np.tile(np.array([20, 20, 30, 30], np.float32), (count, 1))
    drawn = Pictures(
        replace(
            labels,
            picture=np.tile(labels.picture, 2),
            box=np.concatenate([labels.box, spot]),
            landmarks=np.tile(labels.landmarks, (2, 1, 1)),
            certain=np.repeat([True, certain], count),
        )
    )
    place = np.array([[0.9, 21, 21, 31, 31]], np.float32)
    places = [place[:0]] * len(drawn.backgrounds) + [place] * len(drawn.scenes)
    assert len(drawn.scenes)
    assert drawn.taken_for_faces(places, 20.0) == 0


def test_a_face_that_was_cut_out_is_shown_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of 160x120 come to a canvas of 320 twice as large, about; faces have 28 to 60 pixels."""
    monkeypatch.setattr(pictures, "SHARES", (0.0, 0.0, 1.0))
    monkeypatch.setattr(pictures, "FILLED", 1.0)
    monkeypatch.setattr(pictures, "MOSAIC", 0.0)
    drawn = Pictures(scene(tmp_path)).batch(40, (0, 0))
    sizes = [
        float(np.sqrt((box[2:] - box[:2]).prod()))
        for canvas in drawn
        for box in canvas.box[canvas.certain]
    ]
    assert len(sizes) > 36
    assert min(sizes) > 2 * 28 / 1.5
    assert max(sizes) < 2 * 60 * 1.5


def canvas_with(*faces: tuple[float, float, float], certain: bool = True) -> Canvas:
    said = [face(*one) for one in faces]
    return Canvas(
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.array([one.box_xyxy for one in said], np.float32).reshape(-1, 4),
        np.array([one.landmarks for one in said], np.float32).reshape(-1, 5, 2),
        np.full(len(said), certain),
        np.full(len(said), True),
    )


@pytest.mark.parametrize(
    ("size", "strides"), [(16, [8]), (40, [8, 16]), (60, [16]), (90, [16, 32]), (200, [32])]
)
def test_cells_of_the_strides_for_its_size_answer_for_a_face(
    size: float, strides: list[int]
) -> None:
    wanted = targets([canvas_with((100, 100, size))])
    counts = [(SIDE // s) ** 2 for s in (8, 16, 32)]
    by_stride = wanted.face[0].split(counts)
    assert [
        s for s, part in zip((8, 16, 32), by_stride, strict=True) if (part == 1).any()
    ] == strides
    assert (
        wanted.box[0][wanted.face[0] == 1] == torch.tensor([100, 100, 100 + size, 100 + size])
    ).all()


def test_nothing_is_learnt_from_a_place_to_leave_out() -> None:
    wanted = targets([canvas_with((100, 100, 60), certain=False), canvas_with()])
    assert wanted.face[0].isnan().any()
    assert not (wanted.face[0] == 1).any()
    assert (wanted.face[1] == 0).all()


def test_answers_that_are_right_cost_nothing() -> None:
    canvas = canvas_with((96, 96, 32))
    wanted = targets([canvas])
    maps = []
    for stride in (8, 16, 32):
        n = SIDE // stride
        middle = (torch.arange(n) + 0.5) * stride
        said = torch.zeros(1, 15, n, n)
        said[:, 0] = -20
        said[:, 1], said[:, 2] = (112 - middle)[None] / stride, (112 - middle)[:, None] / stride
        said[:, 3:5] = float(np.log(32 / stride))
        for i, (x, y) in enumerate(canvas.landmarks[0].tolist()):
            said[:, 5 + 2 * i] = (x - middle)[None] / stride
            said[:, 6 + 2 * i] = (y - middle)[:, None] / stride
        maps.append(said)
    right = torch.cat([one.flatten(2) for one in maps], 2)
    right[:, 0][wanted.face == 1] = 20
    offsets = np.cumsum([0] + [one[0, 0].numel() for one in maps])
    maps = [
        right[:, :, a:b].reshape(one.shape)
        for one, a, b in zip(maps, offsets, offsets[1:], strict=False)
    ]
    parts = loss(maps, wanted, SIDE, SIDE)
    assert all(float(part) < 1e-4 for part in parts.values()), parts
    maps[0][:, 5] += 1
    assert float(loss(maps, wanted, SIDE, SIDE)["landmarks"]) > 0.05


def test_boxes_that_do_not_meet_still_say_where_to() -> None:
    box = torch.tensor([[0.0, 0, 10, 10], [100, 0, 110, 10]], requires_grad=True)
    truth = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    said = distance_loss(box, truth)
    assert said[0].item() == pytest.approx(0, abs=1e-6)
    assert said[1] > 1
    said[1].backward()
    assert box.grad is not None
    assert box.grad[1, [0, 2]].sum() > 0, "towards the face"


def test_the_network_keeps_its_budget() -> None:
    parameters, multiply_adds = cost(256, 320)
    assert parameters <= 150_000
    assert multiply_adds <= 60e6


def as_yunet(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random weights in the order in which YuNet's file has them; returns those of its twelve heads."""
    rng = np.random.default_rng(3)
    units = [(16, 16), (16, 16), (16, 32), (32, 32), (32, 64), *[(64, 64)] * 9]
    shapes = [(16, 3, 3, 3)]
    for into, out in units:
        shapes += [(out, into, 1, 1), (out, 1, 3, 3)]
    for out in (1, 4, 1, 10):
        shapes += [(out, 64, 1, 1), (out, 1, 3, 3)] * 3
    layers = [(rng.normal(size=s) / np.sqrt(np.prod(s[1:])), rng.normal(size=s[0])) for s in shapes]
    tensors, nodes = [], []
    for number, pair in enumerate(layers):
        names = [f"{number}.{part}" for part in ("weight", "bias")]
        tensors += [
            onnx.numpy_helper.from_array(value.astype(np.float32), name)
            for value, name in zip(pair, names, strict=True)
        ]
        nodes.append(onnx.helper.make_node("Conv", [f"in{number}", *names], [f"out{number}"]))
    graph = onnx.helper.make_graph(nodes, "yunet", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), path)
    return layers[1 + 2 * len(units) :]


def test_a_network_that_begins_with_yunets_weights_says_what_yunet_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = as_yunet(tmp_path / "y.onnx")
    sha256 = hashlib.sha256((tmp_path / "y.onnx").read_bytes()).hexdigest()
    monkeypatch.setattr(network_module, "YUNET_SHA256", sha256)
    network = DetectorNetwork().eval()
    adopt(network, tmp_path / "y.onnx")
    seen: dict[int, torch.Tensor] = {}
    for level, head in enumerate(network.heads):
        head.register_forward_hook(lambda _, x, *__, level=level: seen.update({level: x[0]}))
    with torch.no_grad():
        maps = network(torch.rand(1, 3, 64, 96) * 255)
    for level, said in enumerate(maps):

        def yunet(kind: int, level: int = level) -> torch.Tensor:
            out = seen[level]
            for weight, bias in heads[2 * (3 * kind + level) : 2 * (3 * kind + level) + 2]:
                w, b = torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
                groups = len(w) if w.shape[-1] == 3 else 1
                out = torch.nn.functional.conv2d(out, w, b, padding=w.shape[-1] // 2, groups=groups)
            return out

        face, box, there, points = (yunet(kind) for kind in range(4))
        torch.testing.assert_close(said[:, :1], 0.2 * face + 0.8 * there)
        torch.testing.assert_close(said[:, 1:3], box[:, :2] - 0.5)
        torch.testing.assert_close(said[:, 3:5], box[:, 2:])
        torch.testing.assert_close(said[:, 5:], points - 0.5)


def test_it_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pictures = Pictures(scene(tmp_path))
    canvases = pictures.batch(4, (0, 0))
    wanted, image = targets(canvases), as_input(canvases)
    network = DetectorNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    costs = []
    for _ in range(40):
        parts = loss(network(image), wanted, SIDE, SIDE)
        total = sum(parts.values(), torch.zeros(()))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        costs.append(float(total.detach()))
    assert costs[-1] < costs[0] / 2


def test_a_run_that_was_broken_off_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(scene(tmp_path), tmp_path / "labels")
    settings = Settings(epochs=2, steps=2, batch=2)
    whole = train(tmp_path / "labels", tmp_path / "whole", settings)
    evaluate = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "labels", tmp_path / "broken", settings)
    monkeypatch.setattr(module, "evaluate", evaluate)
    again = train(tmp_path / "labels", tmp_path / "broken", settings)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    rows = [json.loads(row) for row in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    loaded = load_detector(tmp_path / "whole")
    assert all((a == b).all() for a, b in zip(loaded.parameters(), whole.parameters(), strict=True))


def test_a_users_mistake_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--labels", str(tmp_path), "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as error:
        module.main()
    assert error.value.code == 2
    assert "has no labels.npz" in capsys.readouterr().err


def test_figures_count_found_missed_and_false_faces() -> None:
    tally = Tally()
    there = [face(10, 10, 40), face(100, 10, 30), face(100, 100, 26)]
    box = np.array([one.box_xyxy for one in there])
    landmarks = np.array([one.landmarks for one in there])
    moved = Face(there[0].box_xyxy, there[0].landmarks + np.float32([1.6, 0]), 0.9)
    said = (moved, face(200, 200, 70), face(100, 102, 30))
    tally.add(said, box, landmarks, np.array([True, True, False]))
    tally.add((), box[:0], landmarks[:0], np.zeros(0, bool))
    figures = tally.figures()
    assert figures["recall_24"] == 0.5, "the second was missed"
    assert figures["recall_32"] == 1.0
    assert figures["faces_32"] == 1
    assert figures["landmarks_32"] == pytest.approx(0.1), "1.6 of 16 pixels between the eyes"
    assert figures["false_24"] == figures["false_64"] == 0.5, "one in two pictures"
    assert np.isnan(figures["recall_64"])


def test_a_place_that_is_left_out_is_neither_found_nor_false() -> None:
    tally = Tally()
    place = face(10, 10, 60)
    tally.add((place,), place.box_xyxy[None], place.landmarks[None], np.array([False]))
    assert tally.figures()["false_24"] == 0
    assert tally.figures()["faces_24"] == 0


def test_overlaps_are_intersection_over_union() -> None:
    one = np.array([[0, 0, 10, 10]], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10]], np.float32)
    assert overlaps(one, others)[0].tolist() == pytest.approx([1, 1 / 3, 0])
