"""A run's folder: what was asked, on what, by which code, how it went, and where to go on.

``settings.json`` decides whether a run is continued, ``starts.jsonl`` has the commit and the machine of
every start, ``log.jsonl`` a row for each epoch, ``tensorboard/`` the same as curves, ``checkpoint.pt``
all that is needed to go on. Everything is written whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from .cache import locked, write_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


class Run:
    """The folder of one run; begun, or gone on with. A context: nobody else may write meanwhile.

    Args:
        folder: is made if need be.
        settings: dataclass of all that decides the result.
        inputs: names and hashes of the data, and what else came in: recorded with the settings.
        writes: False in all processes but the first: they read the folder and leave it alone.

    Raises:
        ValueError: the folder holds a run with other settings or inputs, or one that is going on.
    """

    def __init__(
        self,
        folder: Path,
        settings: DataclassInstance,
        inputs: Mapping[str, Any],
        *,
        writes: bool = True,
    ) -> None:
        self.folder = folder
        self.writes = writes
        self._board: Any = None
        asked = json.loads(json.dumps({**asdict(settings), **inputs}))
        known = folder / "settings.json"
        if known.is_file() and (before := json.loads(known.read_text())) != asked:
            keys = sorted(before.keys() | asked.keys())
            other = [key for key in keys if before.get(key) != asked.get(key)]
            raise ValueError(
                f"{known}: this run was begun with other settings ({', '.join(other)}); "
                "give the same again, or another folder"
            )
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = locked(folder)
            write_whole(known, json.dumps(asked, indent=1) + "\n")
            with (folder / "starts.jsonl").open("a") as file:
                file.write(json.dumps(environment()) + "\n")
            print(f"{folder}: " + ", ".join(f"{key}={value}" for key, value in asked.items()))

    def log(self, row: Mapping[str, Any]) -> None:
        """Add a row, which has an "epoch", to the log, the curves and what is printed."""
        if not self.writes:
            return
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        board = self._tensorboard()
        for name, value in row.items():
            if isinstance(value, (int, float)):
                board.add_scalar(name, value, row["epoch"])
        board.flush()

    def report(self, figures: Mapping[str, Any]) -> None:
        """Write what came out, once, as ``report.json``, and print it."""
        text = json.dumps(figures, indent=1)
        write_whole(self.folder / "report.json", text + "\n")
        print(text)

    def rows(self) -> list[dict[str, Any]]:
        """The log so far."""
        path = self.folder / "log.jsonl"
        return [json.loads(row) for row in path.read_text().splitlines()] if path.is_file() else []

    def save(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Keep all that is needed to go on after ``epoch`` epochs."""
        if self.writes:
            partial = self.folder / "checkpoint.partial"
            torch.save({"epoch": epoch, **state}, partial)
            partial.replace(self.folder / "checkpoint.pt")

    def resume(self) -> dict[str, Any]:
        """What ``save`` kept last, or just ``{"epoch": 0}``; log rows after it are taken back."""
        path = self.folder / "checkpoint.pt"
        saved: dict[str, Any] = {"epoch": 0}
        if path.is_file():
            saved = torch.load(path, weights_only=True, map_location="cpu")
        if self.writes and (kept := [row for row in self.rows() if row["epoch"] < saved["epoch"]]):
            write_whole(self.folder / "log.jsonl", "".join(f"{json.dumps(row)}\n" for row in kept))
        elif self.writes:
            (self.folder / "log.jsonl").unlink(missing_ok=True)
        return saved

    def _tensorboard(self) -> Any:
        if self._board is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            epoch = self.rows()[-1]["epoch"]
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=epoch)
        return self._board

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the curves and let go of the folder."""
        if self._board is not None:
            self._board.close()
        if self.writes:
            self._lock.close()


def environment() -> dict[str, Any]:
    """Commit and machine; a commit with changes of one's own ends in "+"."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": str(torch.cpu.get_capabilities().get("cpu_name", platform.machine())),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str:
    """Of this checkout, "+" at its end if files were changed since; "unknown" outside of git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603
            ["git", "-C", str(here), *arguments],  # noqa: S607
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def add_settings(parser: argparse.ArgumentParser, settings: type[S]) -> None:
    """An option for each field of a settings dataclass, with its default."""
    kinds = typing.get_type_hints(settings)
    for field in fields(settings):
        kind = kinds[field.name]
        assert field.default is not MISSING
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind, default=field.default,
            metavar=kind.__name__, help=f"default {field.default}",
        )  # fmt: skip


def settings_of(args: argparse.Namespace, settings: type[S]) -> S:
    """The settings that were given by ``add_settings``'s options."""
    return settings(**{field.name: getattr(args, field.name) for field in fields(settings)})
