"""Judging many clips on a Ray cluster, by Ray Data: the same work as on one machine, for more of them."""

from __future__ import annotations

import json
import logging
import socket
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ._batch_judge import Clip, Judge
from ._batch_rows import Row, from_line, to_line
from .errors import BackendWarning, OccamError
from .machine import has_module

LOCAL: Final = "local"
CONNECT_S: Final = 10.0
ATTEMPTS: Final = 2  # Ray would give a clip that kills its process to another one without end


def check_ray() -> None:
    """Raise ``OccamError``, with the line that installs it, where Ray is not there."""
    if not has_module("ray"):
        raise OccamError('Ray is not installed: pip install "occam-sdk[ray]"')


def judge_all(
    clips: Sequence[Clip], judge: Judge, workers: int | None, address: str
) -> Iterator[Row]:
    """The row of each clip, as soon as it is there.

    The files must lie under the same names on every machine of the cluster, and so must a bundle that
    is not the packaged one. ``workers`` is how many actors, by default one for each of its cores.

    Raises:
        OccamError, ValueError: the cluster cannot be reached, or the networks cannot be opened there.
    """
    if not clips:
        return
    import ray
    import ray.data

    try:
        _check_address(address)
        ray.init(
            address=address,
            num_cpus=workers if address == LOCAL else None,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise OccamError(f"ray {address}: cannot be reached ({error}); check it") from error
    try:
        yield from _judge_all(clips, judge, workers)
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise ``OSError`` where nobody listens: Ray itself goes on trying for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in (LOCAL, "auto"):
        return
    if not (host and port.isdecimal() and int(port) < 1 << 16):
        raise ValueError(f"expected HOST:PORT, {LOCAL} or auto")
    socket.create_connection((host, int(port)), CONNECT_S).close()


def _judge_all(clips: Sequence[Clip], judge: Judge, workers: int | None) -> Iterator[Row]:
    import ray
    import ray.data

    try:
        notes = ray.get(ray.remote(_notes).remote(judge))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    if notes:
        warnings.warn("; ".join(notes), BackendWarning, stacklevel=2)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    size = workers or int(ray.cluster_resources()["CPU"])
    attempts = ray.remote(num_cpus=0)(_Attempts).remote()
    items = [
        {"clip": json.dumps([str(clip.file.absolute()), clip.path, clip.size_bytes, clip.modified])}
        for clip in clips
    ]
    # One clip a block: its row comes back when it is done, and a block that is lost is one clip.
    judged = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _Actor,
        fn_constructor_args=(judge, attempts),
        compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )
    missing = {clip.path: clip for clip in clips}
    for item in judged.iter_rows():
        row = from_line(item["row"])
        if missing.pop(str(row["path"]), None):
            yield row
    for clip in missing.values():
        yield judge.row(clip, {}, "the cluster lost it; start the same command again")


def _notes(judge: Judge) -> tuple[str, ...]:
    return judge.recognizer.info.notes


class _Attempts:
    """Counts, for the whole cluster, how often each clip was begun."""

    def __init__(self) -> None:
        self._begun = Counter[str]()

    def begin(self, path: str) -> int:
        self._begun[path] += 1
        return self._begun[path]


class _Actor:
    """Judges one clip at a time, with networks that stay open."""

    def __init__(self, judge: Judge, attempts: Any) -> None:
        self._judge, self._attempts = judge, attempts

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        import ray

        file, path, size_bytes, modified = json.loads(item["clip"])
        clip = Clip(Path(file), path, size_bytes, modified)
        if ray.get(self._attempts.begin.remote(path)) > ATTEMPTS:
            error = f"the process that judged it died, {ATTEMPTS} times"
            return {"row": to_line(self._judge.row(clip, {}, error))}
        return {"row": to_line(self._judge(clip))}
