"""Engines that were compiled on this machine, kept for the next time.

An engine belongs to the machine, the runtime and the model that it was made of. One file holds the key
and the engine; it is written whole or not at all, and what does not match is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ..errors import BackendError

SUFFIX: Final = ".engine"
MAX_HEADER_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class EngineKey:
    """What an engine is good for.

    Attributes:
        network: "detector", "expression", "voice".
        model_sha256: of the ONNX file.
        backend: "openvino" or "tensorrt".
        version: of the runtime.
        device: the device's full name.
        precision: "int8", "fp32", "bf16", "fp16".
        shapes: of the inputs, and whatever else it was built for.
    """

    network: str
    model_sha256: str
    backend: str
    version: str
    device: str
    precision: str
    shapes: str


class EngineCache:
    """A folder of engines.

    Args:
        folder: by default ``OCCAM_CACHE_DIR``, else ``occam-sdk`` in ``XDG_CACHE_HOME`` or
            ``~/.cache``.

    Example:
        >>> key = EngineKey("voice", "ab" * 32, "openvino", "2026.4", "a CPU", "fp32", "any")
        >>> EngineCache(Path("nowhere")).load(key)
        (None, 'there was none')
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def path(self, key: EngineKey) -> Path:
        """Where the engine of this network, model, runtime and precision lies."""
        place = f"{key.network}-{key.precision}-{key.backend}-{key.model_sha256[:12]}"
        return self.folder / (re.sub(r"[^\w.-]", "_", place) + SUFFIX)

    def load(self, key: EngineKey) -> tuple[bytes | None, str]:
        """The engine, or None and why there is none that fits."""
        path = self.path(key)
        try:
            if not path.is_file():
                return None, "there was none"
            has, engine = _read(path)
        except (OSError, ValueError) as error:
            return None, f"the last one cannot be read: {error}"
        for name, value in asdict(key).items():
            if has.get(name) != value:
                return None, f"{name.replace('_', ' ')} was {has.get(name)}, is {value}"
        return engine, ""

    def store(self, key: EngineKey, engine: bytes) -> Path:
        """Keep an engine.

        Raises:
            BackendError: the folder cannot be written to.
        """
        path = self.path(key)
        header = {**asdict(key), "sha256": hashlib.sha256(engine).hexdigest()}
        partial = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                partial = Path(file.name)
                file.write(json.dumps(header).encode() + b"\n" + engine)
            partial.replace(path)
        except OSError as error:
            if partial is not None:
                partial.unlink(missing_ok=True)
            raise BackendError(
                f"{path}: cannot be written ({error.strerror}); set OCCAM_CACHE_DIR to a folder that can"
            ) from error
        return path

    def entries(self) -> Iterator[Path]:
        """The files of all engines."""
        yield from sorted(self.folder.glob(f"*{SUFFIX}"))

    def damaged(self) -> Iterator[tuple[Path, str]]:
        """Files of the cache that cannot be used, and why."""
        for path in self.entries():
            if why := _damage(path):
                yield path, why


def default_folder() -> Path:
    """Where engines are kept unless said otherwise."""
    named = os.environ.get("OCCAM_CACHE_DIR")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "occam-sdk"
    try:
        return Path.home() / ".cache" / "occam-sdk"
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / f"occam-sdk-{os.getuid()}"


def _damage(path: Path) -> str:
    try:
        _read(path)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _read(path: Path) -> tuple[dict[str, str], bytes]:
    """Key and engine of a file.

    Raises:
        ValueError: it was cut or changed.
    """
    with path.open("rb") as file:
        line = file.readline(MAX_HEADER_BYTES)
        engine = file.read()
    try:
        header = json.loads(line)
        expected = header["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: its first line is no key; delete the file") from error
    if hashlib.sha256(engine).hexdigest() != expected:
        raise ValueError(f"{path}: it was cut or changed; delete the file")
    return header, engine
