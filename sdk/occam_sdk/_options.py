"""Options that several commands of ``occam`` share, and how a user's mistake ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from .errors import OccamError

USER_ERROR: Final = 2

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Folder of a model bundle; by default the packaged one."),
]
BackendOption = Annotated[
    str,
    typer.Option(help="auto, openvino, onnxruntime, onnxruntime-tensorrt or tensorrt."),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, intel:gpu, intel:npu or intel:auto.")
]
PrecisionOption = Annotated[str, typer.Option(help="auto, int8, fp32, bf16 or fp16.")]
ThreadsOption = Annotated[
    int | None, typer.Option(help="Threads of the CPU; by default as many as the runtime likes.")
]
StrictOption = Annotated[
    bool,
    typer.Option("--strict", help="Refuse a device or precision that cannot be had."),
]

MinFaceOption = Annotated[
    float | None,
    typer.Option(
        help="Smallest face to look for, in pixels; by default a twentieth of a frame's longer side."
    ),
]
MaxFacesOption = Annotated[
    int,
    typer.Option(
        help="Faces to tell of, at most 8; the one seen longest and largest is the main one, and judged."
    ),
]


@contextmanager
def user_errors() -> Iterator[None]:
    """A message on stderr and exit code 2 instead of a traceback."""
    try:
        yield
    except BrokenPipeError:  # whoever read our output has seen enough: typer ends quietly
        raise
    except (OccamError, ValueError, OSError) as error:
        Console(stderr=True).print(Text(f"occam: {error}", style="red"), soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error
