"""A window that shows a stream: its pictures, with what it says drawn in, and a line of figures."""

from __future__ import annotations

import gc
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .annotate import Drawing, Shown
from .errors import BackendError
from .labels import LABELS
from .stream import Stream, StreamUpdate, StreamView
from .stretches import Course, courses
from .types import Frame

LARGEST_PX: Final = (1280, 720)  # a larger picture is scaled down: to hand it over takes too long
SMALLEST_PX: Final = 800  # width up to which a smaller one is enlarged, to be read
SCREEN_SHARE: Final = 0.8
PAUSE_S: Final = (
    0.008  # between two looks at what is new: twice in a picture of a camera that sends 60 a second
)
TEXT_LINES: Final = 4  # below the picture; as many whatever there is to say, so that nothing jumps
NOWHERE: Final = np.full(4, np.nan)


class Overlay:
    """Draws into a stream's pictures what it says.

    Boxes are those of the newest faces, scores those of the last update: they are about its last seconds,
    and can be read.

    Args:
        largest_px: width and height that no picture exceeds.
    """

    def __init__(self, largest_px: tuple[int, int] = LARGEST_PX) -> None:
        self._largest_px = largest_px
        self._update: StreamUpdate | None = None
        self._tracks: tuple[Course, ...] = ()
        self._drawing: Drawing | None = None
        self._shape: tuple[int, ...] = ()

    def draw(self, view: StreamView, update: StreamUpdate | None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 BGR, in the window's size; ``update`` is the last, or None before the first."""
        height, width = view.frame.image.shape[:2]
        scale = self._scale(width, height)
        size = max(1, round(scale * width)), max(1, round(scale * height))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(view.frame.image, size, interpolation=how), np.uint8)
        if update is None:
            return image
        if self._drawing is None or update is not self._update or image.shape != self._shape:
            self._update, self._shape = update, image.shape
            self._tracks = courses(update.result)
            self._drawing = Drawing.of(self._tracks, image.shape[:2], scale)
        boxes = {
            face.face.track_id: scale * face.face.box_xyxy.astype(np.float64) for face in view.faces
        }
        main, *others = self._tracks
        self._drawing.draw(
            image,
            _shown(main, boxes, update.result.scores),
            *(_shown(each, boxes, each.said.scores if each.said else None) for each in others),
        )
        return image

    def _scale(self, width: int, height: int) -> float:
        wide, high = self._largest_px
        return min(wide / width, high / height, max(1.0, SMALLEST_PX / width))


def _shown(
    track: Course, boxes: dict[int | None, NDArray[np.float64]], scores: NDArray[np.float32] | None
) -> Shown:
    said = np.full(len(LABELS), np.nan) if scores is None else scores.astype(np.float64)
    return Shown(track.name, boxes.get(track.track_id, NOWHERE), said)


class LiveWindow:
    """Shows a stream until it ends or the user has seen enough: q, Escape, or the window's cross.

    To be used in the thread that made it; ``tell`` from whichever. Pictures that come too fast to be
    shown are skipped, and nothing waits for the window.

    Args:
        title: of the window.

    Raises:
        BackendError: there is no display, or this Python has no tkinter.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise BackendError(
                "a window needs tkinter: sudo apt install python3-tk, or take a Python that has it"
            ) from error
        try:
            self._root = tkinter.Tk(className="occam")
        except tkinter.TclError as error:
            raise BackendError(
                f"a window needs a display ({error}): start it in a desktop session, over the network "
                "with ssh -X, or leave out --window"
            ) from error
        self._root.title(title)
        self._root.configure(background="black")
        self._root.resizable(width=False, height=False)
        self._picture = tkinter.PhotoImage(master=self._root, width=SMALLEST_PX, height=450)
        self._photo = tkinter.Label(self._root, image=self._picture, borderwidth=0)
        self._photo.pack()
        self._text = tkinter.Label(
            self._root, background="black", foreground="#dddddd", justify="left", anchor="nw",
            font=("TkDefaultFont", 11), padx=8, pady=6, height=TEXT_LINES, text="waiting for a picture …",
        )  # fmt: skip
        self._text.pack(fill="x")
        for event in ("<Key-q>", "<Escape>"):
            self._root.bind(event, lambda _: self._leave())
        self._root.protocol("WM_DELETE_WINDOW", self._leave)
        self._root.update()
        screen = self._root.winfo_screenwidth(), self._root.winfo_screenheight()
        wide, high = (
            min(most, round(SCREEN_SHARE * side))
            for most, side in zip(LARGEST_PX, screen, strict=True)
        )
        self._overlay = Overlay((wide, high))
        self._is_open = True
        self._told: tuple[StreamUpdate, str] | None = None

    def tell(self, update: StreamUpdate, text: str) -> None:
        """The last update, and what to write below the picture; from any thread."""
        self._told = update, text

    def show(self, stream: Stream) -> None:
        """Until the stream ends or the window is closed.

        Raises:
            Exception: what ended the stream, if it was a mistake.
        """
        drawn: Frame | None = None
        told: tuple[StreamUpdate, str] | None = None
        while self._is_open and not stream.wait(PAUSE_S):
            view, news = stream.view(), self._told
            if news is not None and news is not told:
                self._text.configure(text=news[1])
            if view is not None and (view.frame is not drawn or news is not told):
                self._draw(self._overlay.draw(view, news[0] if news else None))
                drawn = view.frame
            told = news
            self._root.update()

    def close(self) -> None:
        """Take the window off the screen; nothing else can be done with it then."""
        # What is Tk's must be freed in this thread: elsewhere it waits for seconds, or aborts.
        del self._picture
        self._root.destroy()
        del self._root, self._photo, self._text
        gc.collect()

    def _leave(self) -> None:
        self._is_open = False
        self._root.withdraw()  # at once, whatever still has to end

    def _draw(self, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        if (self._picture.width(), self._picture.height()) != (width, height):
            self._picture.configure(width=width, height=height)
            self._text.configure(wraplength=width - 16)
        _, ppm = cv2.imencode(".ppm", image)
        self._picture.configure(data=ppm.tobytes(), format="PPM")
