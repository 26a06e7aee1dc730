"""What is judged, how, and by whom: a process of this machine's or of a cluster's does it alike."""

from __future__ import annotations

import hashlib
import platform
import warnings
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from ._batch_rows import COLUMNS, Row, printable, result_figures
from .backends import Runtime
from .bundle import DEFAULT_BUNDLE, MANIFEST, load_bundle
from .errors import BackendWarning, BundleError

if TYPE_CHECKING:
    from .recognizer import Recognizer


@dataclass(frozen=True)
class BatchSettings:
    """How many clips are judged.

    Attributes:
        bundle: folder of a model bundle; None is the packaged one.
        runtime: where and how the networks run, in each process.
        min_face_px: the smallest face to look for, as ``Recognizer`` takes it.
        workers: how many processes; None is one for each core that this one may use, or that the
            cluster has.
        ray: address of a Ray cluster whose machines all see the files under the same names, or "local";
            None is this machine, without Ray.

    Raises:
        ValueError: no process at all.
    """

    bundle: Path | None = None
    runtime: Runtime = field(default_factory=partial(Runtime, threads=1))
    min_face_px: float | None = None
    workers: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers: expected one at least, or None, got {self.workers}")

    def judged_by(self) -> str:
        """All that an answer depends on but the clip, as it stands in every row.

        Raises:
            BundleError: the bundle cannot be used.
        """
        bundle, runtime = load_bundle(self.bundle or DEFAULT_BUNDLE), self.runtime
        manifest = hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest()[:12]
        asked = f"{runtime.backend} {runtime.device} {runtime.precision}"
        faces = "" if self.min_face_px is None else f", faces from {self.min_face_px:g} px"
        return printable(f"{bundle.name} {manifest}, {asked}{faces}, occam-sdk {__version__}")


@dataclass(frozen=True)
class Clip:
    """A file to judge.

    Attributes:
        file: where it is.
        path: its name in the table.
        size_bytes, modified: None where the file cannot be looked at. They tell a changed file.
    """

    file: Path
    path: str
    size_bytes: int | None
    modified: str | None


class Judge:
    """Makes a clip's row; what a process does with each clip that it is given."""

    def __init__(self, settings: BatchSettings) -> None:
        bundle = settings.bundle and settings.bundle.absolute()  # for processes of other folders
        self._settings = replace(settings, bundle=bundle)
        self.judged_by = settings.judged_by()

    @cached_property
    def recognizer(self) -> Recognizer:
        """Opened where it is first asked for."""
        import cv2

        from .recognizer import Recognizer

        cv2.setNumThreads(1)  # of each process; it would take all cores
        runtime, settings = self._settings.runtime, self._settings
        if (here := settings.judged_by()) != self.judged_by:
            raise BundleError(
                f"{platform.node()}: has {here}, the batch was begun with {self.judged_by}; "
                "install the same there"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BackendWarning)  # its notes are told once for all
            return Recognizer(
                settings.bundle or DEFAULT_BUNDLE,
                **asdict(runtime),
                min_face_px=settings.min_face_px,
            )

    def __call__(self, clip: Clip) -> Row:
        """The row of one clip; whatever is wrong with the clip is the row's error."""
        try:
            figures, error = result_figures(self.recognizer.predict(clip.file)), None
        except Exception as problem:  # one bad file never ends the job
            figures = {}
            error = f"{problem}".removeprefix(f"{clip.file}: ") or type(problem).__name__
        return self.row(clip, figures, error)

    def row(self, clip: Clip, figures: Row, error: str | None) -> Row:
        """A row of these figures, empty where there are none."""
        known: Row = {
            "path": clip.path,
            "error": None if error is None else printable(error),
            "size_bytes": clip.size_bytes,
            "modified": clip.modified,
            "judged_by": self.judged_by,
            **figures,
        }
        return {name: known.get(name) for name in COLUMNS}
