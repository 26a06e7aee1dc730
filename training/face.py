r"""Train the face network: two label sets on one trunk, and valence-arousal [2.1].

    python -m training.face --faces runs/ferplus runs/diffusionfer --out runs/face

The best answer to annotations that disagree is the paper's own, a head for each: FER+ votes (and every
other set of eight classes) as soft targets, seven classes with label smoothing and half a logit
adjustment (Menon et al. 2021), which trades a little accuracy for the rare classes. Missing targets are
masked. The two-step transfer to another corpus is the same command with a start:

    python -m training.face --faces runs/rafdb runs/sfew --out runs/transferred \
        --from-run runs/face --heads-epochs 5 --rate 3e-4

The run may be a bundle, as the one that ships. First the heads are fitted alone, then all of the network
at the lower rate. Where the start is a larger
network (resnet-lite from resnet-wide), blocks and channels are left out of it. Every epoch leaves a
checkpoint, from which a run that was killed goes on. On several GPUs or machines, or with several
processes of one machine: torchrun --nproc-per-node 2 -m training.face ...
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from .cache import write_whole
from .clips import Network, open_network
from .cut import can_cut, cut
from .distil import Teacher
from .faces import LabelledFaces, Statistics
from .fit import Phase, Settings, State, Team, Trainer, phases, this_team
from .judge import evaluate, load_network, load_scale
from .network import ARCHITECTURES, Architecture, FaceNetwork
from .pretrained import DLIB_SHA256, Layer, adopt, check_shape, read_dlib
from .runs import Run, add_settings, settings_of
from .shipped import is_bundle, measure_norms

NORM_FACES: Final = 512  # that fix the batch norms of a pre-trained network


@dataclass(frozen=True)
class Origin:
    """What a run learns from besides faces; all of it finished, none of it needed.

    Attributes:
        start: folder of a run, or of a bundle, whose network is the first one of this run; a larger one
            is cut down.
        pretrained: dlib's network, see ``training.pretrained``, whose weights are the first ones.
        teachers: folders of runs, or of bundles, whose networks' mean scores are learnt, too.
    """

    start: Path | None = None
    pretrained: Path | None = None
    teachers: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.start is not None and self.pretrained is not None:
            raise ValueError("--from-run and --pretrained both give the first weights; name one")


NO_ORIGIN: Final = Origin()


def train(
    folders: Sequence[Path], run_folder: Path, settings: Settings, origin: Origin = NO_ORIGIN
) -> FaceNetwork:
    """Train, or go on training, in the folder ``run_folder``.

    Args:
        folders: prepared corpora of faces, all of the size of ``settings``, or of the architecture's.
        run_folder: gets settings, statistics, log and checkpoint; a run that was broken off is
            continued.
        settings: must be those of the run that is continued.
        origin: first weights and teachers.

    Returns:
        The averaged network of the epoch that was best on Valid.

    Raises:
        ValueError: other settings than those of the run, faces of another size, no face to learn
            from or to choose on.
        FloatingPointError: the loss is not a number any more.
    """
    team = this_team()
    data = LabelledFaces(folders)
    shape = ARCHITECTURES[settings.architecture]
    layers = None
    if origin.pretrained is not None:
        check_shape(shape)
        layers = read_dlib(origin.pretrained)
    if data.size != (size := settings.size or shape.size):
        raise ValueError(
            f"faces of {data.size} pixels, {settings.architecture} takes {size}; prepare them with "
            f"--size {size}, or train it for others with --size {data.size}"
        )
    rows = data.train_rows(settings.synthetic_times, taught=bool(origin.teachers))
    valid = data.valid_rows()
    if len(rows) < settings.batch or not len(valid):
        raise ValueError(
            f"{len(rows)} faces to learn from and {len(valid)} to choose on: too few for batches of "
            f"{settings.batch}; prepare more, or lower --batch"
        )
    started = None if origin.start is None else _started(origin.start, settings.architecture)
    inputs = {"data": data.inputs, "start": started, **_recorded(origin, settings)}
    with Run(run_folder, settings, inputs, writes=team.rank == 0) as run:
        _train(run, data, rows, valid, settings, origin, layers, team)
    if team.size > 1:
        distributed.barrier()
    return load_network(run_folder)


def _train(
    run: Run,
    data: LabelledFaces,
    rows: NDArray[np.int64],
    valid: NDArray[np.int64],
    settings: Settings,
    origin: Origin,
    layers: list[Layer] | None,
    team: Team,
) -> None:
    """All epochs of all phases, from where the run was."""
    start, measured = origin.start, data.statistics()
    if start is not None:
        measured = _as_started(measured, start)
    if run.writes:
        write_whole(run.folder / "statistics.json", json.dumps(asdict(measured), indent=1) + "\n")

    torch.manual_seed(settings.seed)
    network = FaceNetwork(settings.architecture, size=data.size, dropout=settings.dropout)
    some = rows[:: -(-len(rows) // NORM_FACES)]
    if start is not None:
        begun = load_network(start)
        pixels = (data.batch(some).faces[:, None].float() / 255 - measured.mean) / measured.std
        if begun.architecture != network.architecture:
            cut(begun, network, pixels)
        else:
            network.load_state_dict(begun.state_dict())
            if is_bundle(start):
                measure_norms(network, pixels)
    elif layers is not None:
        adopt(network, layers, data.batch(some).faces, measured.mean, measured.std)
    teachers = tuple(
        Teacher(load_network(folder).to(team.device), *load_scale(folder))
        for folder in origin.teachers
    )
    network = network.to(team.device).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    saved = run.resume()
    best: State = saved.get("best", {"worth": -math.inf, "epoch": -1, "network": {}})
    if "network" in saved:
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
    for phase in phases(settings):
        first = max(phase.first, saved["epoch"])
        if first >= phase.last or _patience_ended(best, first, phase, settings):
            continue
        trainer = Trainer(network, average, data, rows, measured, phase, settings, team, teachers)
        if first > phase.first:
            trainer.load_state_dict(saved)
        for epoch in range(first, phase.last):
            row = {"epoch": epoch, "phase": phase.name, **trainer.epoch(epoch)}
            stop = torch.zeros(1, device=team.device)
            if run.writes:
                figures = evaluate(average, data, valid, measured, settings)
                if figures["worth"] > best["worth"]:
                    kept = {k: v.cpu().clone() for k, v in average.state_dict().items()}
                    best = {"worth": figures["worth"], "epoch": epoch, "network": kept}
                run.log({**row, **figures})
                run.save(epoch + 1, {**trainer.state_dict(), "best": best})
                stop += _patience_ended(best, epoch + 1, phase, settings)
            if team.summed(stop) > 0:
                break


def _patience_ended(best: State, epoch: int, phase: Phase, settings: Settings) -> bool:
    """Whether a phase has had its patience of epochs without a better one."""
    return bool(epoch - 1 - max(best["epoch"], phase.first) >= settings.patience)


def _started(start: Path, architecture: str) -> dict[str, Any]:
    """What identifies the run that this one starts from, if it can."""
    network = open_network(start)
    begun, wanted = _shape(start, network), ARCHITECTURES[architecture]
    if begun != wanted and not can_cut(begun, wanted):
        raise ValueError(
            f"{start}: is a {network.architecture}, {architecture} cannot start from it; "
            "give the same --architecture, or start resnet-lite from a resnet-wide"
        )
    return {"run": start.name, "network": network.key}


def _shape(folder: Path, network: Network) -> Architecture:
    if network.architecture not in ARCHITECTURES:
        raise ValueError(
            f"{folder}: its face network is a {network.architecture}, which cannot be trained here; "
            f"name a bundle or a run of one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[network.architecture]


def _recorded(origin: Origin, settings: Settings) -> dict[str, Any]:
    """What identifies pre-trained weights and teachers, where there are any."""
    if bool(origin.teachers) != (settings.distillation > 0):
        raise ValueError("--teachers and --distillation above 0 go together; give both or neither")
    recorded: dict[str, Any] = {}
    if origin.pretrained is not None:
        recorded["pretrained"] = DLIB_SHA256
    if origin.teachers:
        recorded["teachers"] = {}
    for folder in origin.teachers:
        teacher = open_network(folder)
        _shape(folder, teacher)
        recorded["teachers"][folder.name] = teacher.key
    return recorded


def _as_started(measured: Statistics, start: Path) -> Statistics:
    """Grey mean and spread as the network knows them, the classes' frequency of the new data."""
    return Statistics(*load_scale(start), measured.prior)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--faces", type=Path, nargs="+", required=True, help="folders from training.prepare"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    parser.add_argument(
        "--from-run", type=Path, help="folder of the run, or of the bundle, to start from"
    )
    parser.add_argument("--pretrained", type=Path, help="dlib's network, as first weights")
    parser.add_argument(
        "--teachers",
        type=Path,
        nargs="+",
        default=[],
        help="folders of runs, or of bundles, that teach",
    )
    add_settings(parser, Settings)
    args = parser.parse_args()
    try:
        origin = Origin(args.from_run, args.pretrained, tuple(args.teachers))
        train(args.faces, args.out, settings_of(args, Settings), origin)
    except (FloatingPointError, OSError, ValueError) as error:
        parser.error(str(error))
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


if __name__ == "__main__":
    main()
