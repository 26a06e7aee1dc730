"""Data, once: found and aligned, or heard, by the product's own code, then kept in a cache.

    python -m training.prepare ferplus=../shared/data/ferplus.zip afew=/data/AFEW --out runs

makes ``runs/ferplus`` and ``runs/afew``. It uses all cores and shows how far it is; when it is killed,
the same command goes on where it was. What cannot be used is named in ``left_out.csv``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from occam_sdk.bundle import FEATURE_SETS, load_bundle
from occam_sdk.labels import FERPLUS_LABELS
from occam_sdk.machine import usable_cores

from .cache import REPORT, load_cache, locked, sha256_of, write_whole
from .observe import LOOKED, Observer, Seen, Settings
from .readers import READERS, summary
from .samples import Corpus, LeftOut, Media, Sample

PART: Final[dict[Media, int]] = {"face": 64, "voice": 16, "clip": 4}
"""Samples that are prepared and written at once: what a kill can cost."""


@dataclass(frozen=True)
class Part:
    """The samples ``first`` to ``last`` of a corpus, as they are kept until all are there."""

    first: int
    last: int
    path: Path


def prepare(corpus: Corpus, out: Path, settings: Settings, workers: int | None = None) -> None:
    """Prepare a corpus into the folder ``out``, or go on preparing it.

    Args:
        corpus: from a reader.
        out: gets the cache; see ``training.cache``.
        settings: size and template of the faces, features of the voices.
        workers: processes; by default one for each core.

    Raises:
        ValueError: the folder holds other samples or settings, or another process works on it; or no
            sample could be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        _prepare(corpus, out, settings, workers)


def _prepare(corpus: Corpus, out: Path, settings: Settings, workers: int | None) -> None:
    plan = _plan(corpus, settings)
    if not _begin(out, plan):
        print(f"{out}: is there already")
        return
    parts = [
        Part(first, min(first + PART[corpus.media], len(corpus.samples)), out / "parts" / f"{first:08d}.npz")
        for first in range(0, len(corpus.samples), PART[corpus.media])
    ]  # fmt: skip
    _observe_all(corpus, [part for part in parts if not part.path.is_file()], settings, workers)
    _assemble(corpus, parts, out, plan)
    shutil.rmtree(out / "parts")
    print(_told(out))


def _plan(corpus: Corpus, settings: Settings) -> dict[str, Any]:
    """What decides the result; a folder is continued only with the same."""
    listing, names = hashlib.sha256(), _names(corpus)
    for sample, name in zip(corpus.samples, names, strict=True):
        size = sample.path.stat().st_size if sample.path.is_file() else -1
        listing.update(f"{replace(sample, path=Path(name))} {size}\n".encode())
    decides = asdict(settings)
    if corpus.media == "face":
        del decides["feature_set"]  # nothing is heard
    if corpus.media != "voice":
        network = load_bundle().files["detector.onnx"]["sha256"]
        decides |= {"detector": network, "looked": LOOKED}
    return {
        "corpus": corpus.name,
        "media": corpus.media,
        "samples": len(corpus.samples),
        "listing_sha256": listing.hexdigest(),
        **decides,
    }


def _names(corpus: Corpus) -> list[str]:
    """Each sample's path below the folder that all are in: the same wherever the corpus lies."""
    folder = os.path.commonpath([str(sample.path.parent) for sample in corpus.samples])
    return [sample.path.relative_to(folder).as_posix() for sample in corpus.samples]


def _begin(out: Path, plan: dict[str, Any]) -> bool:
    """Make the folder, or see that it is this plan's; False if all is done."""
    known = out / "plan.json"
    as_json = json.loads(json.dumps(plan))
    if known.is_file() and json.loads(known.read_text()) != as_json:
        raise ValueError(
            f"{out}: holds other samples, settings, or faces found by another detector ({known}); "
            "name another folder or remove it"
        )
    if (out / REPORT).is_file():
        return False
    (out / "parts").mkdir(exist_ok=True)
    write_whole(known, json.dumps(plan, indent=1) + "\n")
    return True


def _observe_all(
    corpus: Corpus, parts: list[Part], settings: Settings, workers: int | None
) -> None:
    started, done = time.perf_counter(), 0
    total = sum(part.last - part.first for part in parts)
    count = min(workers or usable_cores(), max(1, len(parts)))
    with ProcessPoolExecutor(
        count, get_context("spawn"), initializer=_open_observer, initargs=(corpus.media, settings)
    ) as pool:
        futures = {
            pool.submit(_observe, corpus.samples[part.first : part.last], part.path): part
            for part in parts
        }
        try:
            for future in as_completed(futures):
                future.result()
                done += futures[future].last - futures[future].first
                spent_s = time.perf_counter() - started
                left_s = spent_s / done * (total - done)
                _tell(
                    f"{corpus.name}: {done} of {total}, {done / spent_s:.0f}/s, {left_s:.0f} s left"
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if total:
        _tell(f"{corpus.name}: {total} in {time.perf_counter() - started:.0f} s\n")


def _tell(line: str) -> None:
    """Progress: one line that is written over on a terminal, lines in a log."""
    end = "" if sys.stdout.isatty() and not line.endswith("\n") else "\n"
    print(f"\r{line.strip():<70}" if end == "" else line.strip(), end=end, flush=True)


_observer: Observer | None = None


def _open_observer(media: Media, settings: Settings) -> None:
    global _observer
    _observer = Observer(media, settings)


def _observe(samples: Sequence[Sample], path: Path) -> None:
    """Prepare some samples and write them at once: a part is there whole or not at all."""
    assert _observer is not None
    seen = [_observer.observe(sample) for sample in samples]
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        broken=np.array([one if isinstance(one, str) else "" for one in seen]),
        **_stacked([one for one in seen if isinstance(one, Seen)], _observer.settings),
    )
    partial.replace(path)


def _stacked(seen: Sequence[Seen], settings: Settings) -> dict[str, Any]:
    """Columns of some samples; see ``training.cache.Samples``."""
    none = Seen.nothing(settings)
    return {
        "digest": np.array([one.digest for one in seen], "U64"),
        "found": np.array([one.found for one in seen], np.bool_),
        "face_count": np.array([len(one.faces) for one in seen], np.int64),
        "voice_count": np.array([len(one.voices) for one in seen], np.int64),
        "faces": np.concatenate([none.faces, *(one.faces for one in seen)]),
        "times_s": np.concatenate([none.times_s, *(one.times_s for one in seen)]),
        "voices": np.concatenate([none.voices, *(one.voices for one in seen)]),
    }


def _assemble(corpus: Corpus, parts: Sequence[Part], out: Path, plan: dict[str, Any]) -> None:
    """One cache of all parts. The report comes last: with it the cache is complete."""
    used: list[Sample] = []
    names: list[str] = []
    all_names = _names(corpus)
    left_out = list(corpus.left_out)
    columns: dict[str, list[Any]] = {}
    for part in parts:
        with np.load(part.path, allow_pickle=False) as file:
            own = slice(part.first, part.last)
            for sample, name, broken in zip(
                corpus.samples[own], all_names[own], file["broken"].tolist(), strict=True
            ):
                if broken:
                    left_out.append(LeftOut(str(sample.path), broken))
                else:
                    used.append(sample)
                    names.append(name)
            for name in ("digest", "found", "face_count", "voice_count", "times_s", "voices"):
                columns.setdefault(name, []).append(file[name])
    _write_left_out(out / "left_out.csv", left_out)
    if not used:
        raise ValueError(f"{corpus.name}: no sample could be used; see {out / 'left_out.csv'}")
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    faces = np.lib.format.open_memmap(
        out / "faces.partial.npy", "w+", np.uint8,
        (int(joined["face_count"].sum()), plan["size"], plan["size"]),
    )  # fmt: skip
    row = 0
    for part in parts:
        with np.load(part.path, allow_pickle=False) as file:
            some = file["faces"]
            faces[row : row + len(some)] = some
            row += len(some)
    faces.flush()
    (out / "faces.partial.npy").replace(out / "faces.npy")
    np.save(out / "voices.npy", joined["voices"])
    np.savez(
        out / "samples.npz",
        corpus=np.array([corpus.name] * len(used)),
        path=np.array(names),
        split=np.array([sample.split for sample in used]),
        subject=np.array([sample.subject or "" for sample in used]),
        label=np.array([-1 if s.label is None else s.label for s in used], np.int64),
        votes=np.array([s.votes or (0,) * len(FERPLUS_LABELS) for s in used], np.float32),
        valence_arousal=np.array([s.valence_arousal or (np.nan, np.nan) for s in used], np.float32),
        digest=joined["digest"],
        found=joined["found"],
        faces=joined["face_count"],
        voices=joined["voice_count"],
        times_s=joined["times_s"],
    )
    report = {
        **plan,
        "used": len(used),
        "found": int(joined["found"].sum()),
        "faces": int(joined["face_count"].sum()),
        "voices": int(joined["voice_count"].sum()),
        "left_out": dict(Counter(one.reason for one in left_out)),
        "lost": dict(corpus.lost),
        "sha256": sha256_of(out / "faces.npy", out / "voices.npy", out / "samples.npz"),
    }
    write_whole(out / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def _told(out: Path) -> str:
    """What was made, in a few lines."""
    report = load_cache(out).report
    lines = [
        f"{out}: {report['used']} of {report['samples']} samples used, {report['faces']} faces, "
        f"{report['voices']} pieces of sound"
    ]
    if report["media"] != "voice":
        missed = report["used"] - report["found"]
        what = "pictures, kept as plain crops" if report["media"] == "face" else "clips"
        lines.append(f"  no face found in {missed} {what}")
    lines += [f"  left out, {reason}: {n}" for reason, n in report["left_out"].items()]
    return "\n".join(lines)


def _write_left_out(path: Path, left_out: Sequence[LeftOut]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "reason"])
        writer.writerows((one.what, one.reason) for one in left_out)


def unpacked(archive: Path, below: Path) -> Path:
    """The folder with the archive's files, unpacked below ``below`` unless they are there."""
    folder = (
        below / f"{archive.stem}-{archive.stat().st_size}"
    )  # another archive of that name is another
    if not folder.is_dir():
        partial = folder.with_suffix(".partial")
        with zipfile.ZipFile(archive) as file:
            file.extractall(partial)
        partial.rename(folder)
    return folder


def named_places(parser: argparse.ArgumentParser, texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Names of readers and where their corpora lie, of NAME=PLACE; else the parser ends the program."""
    named = []
    for text in texts:
        name, equals, place = text.partition("=")
        if not equals or name not in READERS:
            parser.error(f"{name!r}: expected NAME=PLACE with NAME one of {', '.join(READERS)}")
        if not Path(place).exists():
            parser.error(f"{place}: not there; name the folder or the zip file of {name}")
        named.append((name, Path(place)))
    return named


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "corpora", nargs="+", metavar="NAME=PLACE",
        help=f"a corpus and its folder or zip file; NAME is one of {', '.join(READERS)}",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="gets a folder NAME of each")
    parser.add_argument("--size", type=int, default=Settings.size, help="side of the faces, pixels")
    parser.add_argument(
        "--voice-features", choices=tuple(FEATURE_SETS), default=Settings.feature_set,
        help="what a voice becomes: what the bundle that ships hears, or the paper's, which need the "
        "extra audio; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, help="processes; by default one for each core")
    args = parser.parse_args()
    named = named_places(parser, args.corpora)
    try:
        for name, root in named:
            if root.suffix == ".zip":
                root = unpacked(root, args.out / "unpacked")
            corpus = READERS[name](root)
            print(summary(corpus))
            settings = Settings(size=args.size, feature_set=args.voice_features)
            prepare(corpus, args.out / name, settings, args.workers)
    except (BrokenProcessPool, OSError, ValueError, zipfile.BadZipFile) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
