"""Working ahead: what comes next is made in a thread of its own, while what came before is used."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """No more will come: there is none, or for this reason."""

    error: BaseException | None = None


@contextmanager
def ahead(items: Iterable[T], most: int) -> Iterator[Iterator[T]]:
    """The same items, in order, made in a thread of its own.

    An error that ends ``items`` is raised where the next is asked for. However the block is left, the thread
    has ended by then, having made one item more at most, and ``items``, if a generator, is closed.

    Args:
        items: asked for the next one in that thread alone.
        most: how many may wait to be used; making the next waits for room. 0: there is no thread, each is
            made when it is asked for.

    Example:
        >>> with ahead(range(3), most=2) as numbers:
        ...     list(numbers)
        [0, 1, 2]
    """
    if most == 0:
        try:
            yield iter(items)
        finally:
            _close(items)
        return
    made: SimpleQueue[T | _End] = SimpleQueue()
    room = threading.Semaphore(most)
    left = threading.Event()

    def work() -> None:
        error = None
        try:
            try:
                for item in items:
                    room.acquire()
                    if left.is_set():
                        break
                    made.put(item)
            finally:  # here, where a generator that waits for another thread may wait
                _close(items)
        except BaseException as caught:  # whatever it is, the user is to know
            error = caught
        made.put(_End(error))

    def used() -> Iterator[T]:
        while not isinstance(item := made.get(), _End):
            room.release()
            yield item
        made.put(item)  # who asks again is told the same
        if item.error is not None:
            raise item.error

    thread = threading.Thread(target=work, daemon=True, name="occam-ahead")
    thread.start()
    try:
        yield used()
    finally:
        left.set()
        room.release()
        thread.join()


def _close(items: Iterable[object]) -> None:
    """Tell a generator that nobody will ask again; what is none holds nothing that must be let go."""
    if isinstance(items, Generator):
        items.close()
