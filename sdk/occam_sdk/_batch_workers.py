"""Judging many clips with a process for each core; one that dies takes no other down."""

from __future__ import annotations

import signal
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait

from ._batch_judge import Clip, Judge
from ._batch_rows import Row
from .errors import BackendError, BackendWarning
from .machine import usable_cores


def judge_all(clips: Sequence[Clip], judge: Judge, workers: int | None) -> Iterator[Row]:
    """The row of each clip, as soon as it is there.

    Raises:
        OccamError, ValueError: the networks cannot be opened.
    """
    waiting, tried = deque(clips), set[Clip]()
    limit = workers or usable_cores()
    crew: dict[object, _Worker] = {}
    loaded = False
    try:
        while waiting or crew:
            while waiting and len(crew) < limit:
                worker = _Worker(judge, waiting.popleft())
                crew[worker.pipe] = worker
            for pipe in wait([worker.pipe for worker in crew.values()]):
                worker = crew[pipe]
                answer = worker.answer()
                if isinstance(answer, _Loaded):
                    if answer.notes and not loaded:
                        warnings.warn("; ".join(answer.notes), BackendWarning, stacklevel=2)
                    loaded = True
                elif answer is not None:
                    yield answer
                    if waiting:
                        worker.give(waiting.popleft())
                    else:
                        del crew[pipe]
                        worker.end()
                else:
                    del crew[pipe]
                    how = worker.end()
                    if not loaded:
                        raise BackendError(
                            f"a process that loaded the networks {how}; if memory is short, "
                            "take fewer --workers"
                        )
                    if worker.clip in tried:
                        error = f"the process that judged it {how}, and so did a second one"
                        yield judge.row(worker.clip, {}, error)
                    else:
                        tried.add(worker.clip)
                        waiting.append(worker.clip)
    finally:
        for worker in crew.values():
            worker.process.kill()
            worker.end()


@dataclass(frozen=True)
class _Loaded:
    """The first that a process says: its networks are open, and what is to be known of them."""

    notes: tuple[str, ...]


class _Worker:
    """A process that judges one clip at a time, and the clip that it has."""

    def __init__(self, judge: Judge, clip: Clip) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(judge, theirs), daemon=True)
        resource_tracker.ensure_running()  # when it starts, it would lift the block below
        # Ctrl-C reaches all processes of a terminal; what becomes of these is ours to say.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()  # from now on the pipe ends when the process does
        self.give(clip)

    def give(self, clip: Clip) -> None:
        """Have a clip judged."""
        self.clip = clip
        with suppress(OSError):  # the process is dead, which its answer tells
            self.pipe.send(clip)

    def answer(self) -> Row | _Loaded | None:
        """What the process has to say, or None: it is dead. Raises what kept it from loading."""
        try:
            answer: Row | _Loaded | Exception = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> str:
        """Wait for the end of a process that has nothing to do, or is dead; say how it ended."""
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode or 0
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"


def _work(judge: Judge, pipe: Connection) -> None:
    """What a process does: load the networks, or say why not; then a row for each clip."""
    try:
        pipe.send(_Loaded(judge.recognizer.info.notes))
    except Exception as error:
        pipe.send(error)
        return
    with suppress(EOFError, OSError):  # nobody has more to judge, or waits for the answer
        while True:
            pipe.send(judge(pipe.recv()))
