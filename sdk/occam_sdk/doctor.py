"""What works on this machine, what does not, and how to mend it: the facts behind ``occam doctor``.

Whatever a check looks at is imported in the check: any of it may be what is broken.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

from . import machine
from .errors import BundleError, OccamError

State = Literal["ok", "note", "problem"]
_Verdict = tuple[State, str, str]
"""State, detail and remedy: a finding without its name."""

PYTHONS: Final = ((3, 10), (3, 13))  # oldest and newest that is tested
ARCHITECTURES: Final = ("x86_64", "aarch64")
SHOWN_FLAGS: Final = (
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "avx512_bf16", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
DECODERS: Final = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "vp9": ("vp9", "libvpx-vp9"),
    "av1": ("libdav1d", "libaom-av1", "libgav1"),  # FFmpeg's own needs a GPU that decodes it
    "aac": ("aac", "aac_fixed"),
    "opus": ("opus", "libopus"),
}
"""What clips are made of, and FFmpeg's names of what decodes it."""
OPENCV: Final = "opencv-python-headless"
OPENCVS: Final = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python",
    "opencv-contrib-python-headless",
)  # fmt: skip
ONNXRUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
MIN_FREE_BYTES: Final = 500_000_000  # a few networks' engines, and what a compiler leaves beside
MAX_LISTED: Final = 3
INSTALL_AGAIN: Final = (
    "Install it again: pip install --force-reinstall --no-deps occam-sdk; "
    "from a checkout: pip install --force-reinstall --no-deps ."
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        state: "ok"; "note": works, or is not needed, but is worth knowing; "problem".
        detail: what was found.
        remedy: what to do about it, with the command; a problem always has one.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine(bundle: Path | None = None, *, root: Path = machine.ROOT) -> tuple[Finding, ...]:
    """Look at everything that recognition needs on this machine. Nothing is changed.

    Args:
        bundle: folder of the model bundle to check; None is the packaged one.
        root: of the file system that machine and devices are read from.

    Returns:
        What was found, in a fixed order. A check that fails itself is a problem, never an exception.

    Example:
        >>> examine()[0].name
        'Python'
    """
    checks: dict[str, Callable[[], _Verdict]] = {
        "Python": _python,
        "system": lambda: _system(root),
        "CPU": lambda: _cpu(root),
        "memory": lambda: _memory(root),
        "native core": _native,
        "OpenVINO": _openvino,
        "ONNX Runtime": lambda: _onnxruntime(root),
        "CUDA": lambda: _cuda(root),
        "TensorRT": lambda: _tensorrt(root),
        "Jetson": lambda: _jetson(root),
        "FFmpeg": _ffmpeg,
        "OpenCV": _opencv,
        "openSMILE": _opensmile,
        "camera": lambda: _camera(root),
        "microphone": lambda: _microphone(root),
        "PortAudio": _portaudio,
        "window": _window,
        "bundle": lambda: _bundle(bundle),
        "cache folder": _cache_folder,
        "engine cache": _engine_cache,
    }
    return tuple(Finding(name, *_guarded(check)) for name, check in checks.items())


class _BrokenError(Exception):
    """A package that is needed, or that is there, does not load: detail and remedy."""


def _load(module: str, package: str, *, again: str = "") -> Any:
    """Import a module; ``package`` is what pip installs, ``again`` the command if it is broken."""
    if not machine.has_module(module):
        raise _BrokenError("not installed", f"Install it: pip install {package}")
    try:
        return import_module(module)
    except Exception as error:  # a broken package raises anything: OSError, AttributeError, ...
        raise _BrokenError(
            f"installed, but does not load: {error}",
            f"Install it again: {again or f'pip install --force-reinstall {package}'}",
        ) from error


def _guarded(check: Callable[[], _Verdict]) -> _Verdict:
    try:
        return check()
    except _BrokenError as error:
        return _problem(*error.args)
    except Exception as error:  # whatever it is, the other checks go on
        return _problem(
            f"the check itself failed: {type(error).__name__}: {error}",
            "Report this line, with the output of: occam doctor --json",
        )


def _ok(detail: str) -> _Verdict:
    return "ok", detail, ""


def _note(detail: str, remedy: str = "") -> _Verdict:
    return "note", detail, remedy


def _problem(detail: str, remedy: str) -> _Verdict:
    return "problem", detail, remedy


def _python() -> _Verdict:
    oldest, newest = (".".join(map(str, version)) for version in PYTHONS)
    detail = f"{platform.python_version()}, {sys.executable}"
    remedy = f"Make an environment with Python {newest}: python{newest} -m venv .venv"
    if sys.version_info[:2] < PYTHONS[0]:
        return _problem(f"{detail}; {oldest} to {newest} are supported", remedy)
    if sys.version_info[:2] > PYTHONS[1]:
        return _note(f"{detail}; newer than what is tested, {oldest} to {newest}", remedy)
    return _ok(detail)


def _system(root: Path) -> _Verdict:
    detail = f"{platform.system()} {platform.release()}, {platform.machine()}"
    name = machine.system_name(root)
    detail = f"{name}, {detail}" if name else detail
    if platform.system() != "Linux" or platform.machine() not in ARCHITECTURES:
        tested = " or ".join(ARCHITECTURES)
        return _note(f"{detail}; not tested", f"Use Linux on {tested} if something fails")
    return _ok(detail)


def _cpu(root: Path) -> _Verdict:
    flags = machine.cpu_flags(root)
    parts = [
        machine.cpu_model(root) or "model unknown",
        f"{machine.physical_cores(root) or '?'} cores, {machine.logical_cores(root) or '?'} threads",
        " ".join(flag for flag in SHOWN_FLAGS if flag in flags),
    ]
    governor = machine.scaling_governor(root)
    if governor:
        parts.append(f"governor {governor}")
    detail = "; ".join(filter(None, parts))
    if machine.has_vnni(root) is False:
        return _note(
            f"{detail}; no VNNI: INT8 runs slower and its sums can saturate",
            'Ask for float32: Recognizer(precision="fp32")',
        )
    return _ok(detail)


def _memory(root: Path) -> _Verdict:
    size = machine.memory_bytes(root)
    return _note("its size is not told here") if size is None else _ok(_gigabytes(size))


def _native() -> _Verdict:
    try:
        core = import_module("occam_sdk._core")
    except ImportError as error:
        return _problem(f"occam_sdk._core does not load: {error}", INSTALL_AGAIN)
    return _ok(Path(str(core.__file__)).name)


def _openvino() -> _Verdict:
    openvino = _load("openvino", "openvino")
    version = openvino.__version__.split("-")[0]
    core = openvino.Core()
    devices = [
        f"{name} ({str(core.get_property(name, 'FULL_DEVICE_NAME')).strip()})"
        for name in core.available_devices
    ]
    if not any(device.startswith("CPU") for device in devices):
        return _problem(
            f"{version}, sees no CPU, only {_listed(devices) or 'nothing'}",
            "Install it again: pip install --force-reinstall openvino",
        )
    return _ok(f"{version}, {_listed(devices)}")


def _onnxruntime(root: Path) -> _Verdict:
    found = machine.versions(ONNXRUNTIMES)
    has_gpu = _has_nvidia_gpu(root)
    if len(found) > 1:
        return _problem(
            f"{_and(found)} are both installed and overwrite each other",
            f"Keep one: pip uninstall -y {' '.join(found)} && "
            f"pip install {'onnxruntime-gpu' if has_gpu else 'onnxruntime'}",
        )
    if not found and not machine.has_module("onnxruntime"):
        return _note(
            "not installed; needed only for backend='onnxruntime'",
            'Install it: pip install "occam-sdk[onnxruntime]"',
        )
    onnxruntime = _load("onnxruntime", next(iter(found), "onnxruntime"))
    providers = onnxruntime.get_available_providers()
    names = [name.removesuffix("ExecutionProvider") for name in providers]
    detail = f"{onnxruntime.__version__}, {', '.join(names)}"
    if has_gpu and "CUDA" not in names and not machine.is_jetson(root):
        return _note(
            f"{detail}; this build leaves the NVIDIA GPU unused",
            "Take the other build: pip uninstall -y onnxruntime && pip install onnxruntime-gpu",
        )
    return _ok(detail)


def _cuda(root: Path) -> _Verdict:
    driver = machine.cuda()
    if driver is not None and driver.devices:
        return _ok(f"driver for CUDA {driver.version}, {_listed(driver.devices)}")
    if not machine.has_nvidia_gpu(root):
        return _note("no NVIDIA GPU; needed only for backend='tensorrt' and device='cuda'")
    if driver is None:
        found = "an NVIDIA GPU is there, but its driver's libcuda.so.1 does not load"
    else:
        found = f"an NVIDIA GPU is there, but the driver for CUDA {driver.version} starts none"
    if machine.is_jetson(root):
        how, container = "sudo apt install nvidia-jetpack", "docker run --runtime nvidia"
    else:
        how, container = "on Ubuntu, sudo ubuntu-drivers install", "docker run --gpus all"
    return _problem(found, f"Install the driver: {how}; a container needs {container}")


def _tensorrt(root: Path) -> _Verdict:
    version = machine.tensorrt_version()
    if not _has_nvidia_gpu(root):
        return _note("no NVIDIA GPU" if version is None else f"{version}, but no NVIDIA GPU")
    if machine.is_jetson(root) and version is None:
        return _problem(
            "this Python finds none, though JetPack has it",
            "Install it: sudo apt install nvidia-jetpack, and make an environment that sees it: "
            "python3 -m venv --system-site-packages .venv",
        )
    tensorrt = _load("tensorrt", '"occam-sdk[tensorrt]"')
    return _ok(str(tensorrt.__version__))


def _has_nvidia_gpu(root: Path) -> bool:
    """WSL shows a GPU to nobody but the driver."""
    if machine.has_nvidia_gpu(root):
        return True
    driver = machine.cuda()
    return driver is not None and bool(driver.devices)


def _jetson(root: Path) -> _Verdict:
    found = machine.jetson(root)
    if found is None:
        return _note("not a Jetson")
    parts = [
        found.model,
        f"L4T {found.l4t or 'unknown'}",
        f"JetPack {found.jetpack or 'unknown'}",
        f"power mode {found.power_mode or 'unknown'}",
    ]
    rails = machine.power_mw(root)
    parts += [f"{rail} {power / 1000:.1f} W" for rail, power in rails.items()]
    if found.jetpack is None:
        return _note(", ".join(parts), "Install JetPack: sudo apt install nvidia-jetpack")
    return _ok(", ".join(parts))


def _ffmpeg() -> _Verdict:
    av = _load("av", "av")
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    detail = f"PyAV {av.__version__}, libavcodec {version}"
    missing = [
        name for name, decoders in DECODERS.items() if not any(_decodes(av, d) for d in decoders)
    ]
    if missing:
        return _problem(
            f"{detail}, cannot decode {', '.join(missing)}",
            "Install the build that can: pip install --force-reinstall --only-binary av av",
        )
    return _ok(f"{detail}, decodes {', '.join(DECODERS)}")


def _decodes(av: Any, name: str) -> bool:
    try:
        return bool(av.codec.Codec(name, "r").is_decoder)
    except ValueError:  # UnknownCodecError is one
        return False


def _opencv() -> _Verdict:
    found = machine.versions(OPENCVS)
    # The others' usual fault is a graphics library that is not there: this one needs none.
    again = f"pip uninstall -y {' '.join(found) or OPENCV} && pip install {OPENCV}"
    if len(found) > 1:
        return _problem(
            f"{_and(found)} are installed together and overwrite each other's cv2",
            f"Keep one: {again}",
        )
    cv2 = _load("cv2", OPENCV, again=again)
    return _ok(f"{cv2.__version__}, {_and(found) or 'not from a wheel'}")


def _opensmile() -> _Verdict:
    if not machine.has_module("opensmile"):
        return _note(
            "not installed: only a bundle with its features needs it, the default hears without",
            'For such a bundle, for research or private use: pip install "occam-sdk[audio]"',
        )
    from .audio.features import CONFIGS, VoiceFeatures

    try:
        VoiceFeatures(next(iter(CONFIGS)))
    except OccamError as error:
        return _problem(
            str(error), 'Install it again: pip install --force-reinstall "opensmile>=2.6"'
        )
    version = machine.versions(("opensmile",)).get("opensmile", "")
    return _ok(f"{version}, licence: research and private use only; a product needs audEERING's")


def _camera(root: Path) -> _Verdict:
    return _devices(machine.cameras(root), kind="camera", group="video")


def _microphone(root: Path) -> _Verdict:
    return _devices(machine.microphones(root), kind="microphone", group="audio")


def _portaudio() -> _Verdict:
    if not machine.has_module("sounddevice"):
        return _note(
            "sounddevice is not installed; needed only to hear a microphone",
            'Install it: pip install "occam-sdk[live]"',
        )
    from .microphone import listed, load_sounddevice

    try:
        sounddevice = load_sounddevice()
    except OccamError as error:
        return _problem(str(error), "Install it: sudo apt install libportaudio2")
    heard = [name for _, name in listed(sounddevice)]
    version = machine.versions(("sounddevice",)).get("sounddevice", "")
    return _ok(f"sounddevice {version}, microphones: {_listed(heard) if heard else 'none'}")


def _window() -> _Verdict:
    if not machine.has_module("_tkinter"):
        return _note(
            "this Python has no tkinter; needed only for occam live --window",
            "Install it: sudo apt install python3-tk, or take a Python that has it",
        )
    display = os.environ.get("DISPLAY")
    if not display:
        return _note("tkinter, but no display; needed only for occam live --window")
    return _ok(f"tkinter, display {display}")


def _devices(found: dict[Path, str], *, kind: str, group: str) -> _Verdict:
    if not found:
        return _note("none; needed only for live recognition")
    detail = _listed([f"{device} ({name})" for device, name in found.items()])
    if not any(os.access(device, os.R_OK | os.W_OK) for device in found):
        return _problem(
            f"{detail}: no {kind} may be read by this user",
            f"Join the group: sudo usermod -aG {group} $USER, then log in again; "
            f"a container needs --device {next(iter(found))}",
        )
    return _ok(detail)


def _bundle(path: Path | None) -> _Verdict:
    from .bundle import DEFAULT_BUNDLE, load_bundle

    folder = DEFAULT_BUNDLE if path is None else path
    try:
        bundle = load_bundle(folder)
    except BundleError as error:
        return _problem(
            str(error), INSTALL_AGAIN if path is None else "Leave out --bundle for the packaged one"
        )
    return _ok(f"{bundle.name}, every file as in the manifest, {folder}")


def _cache_folder() -> _Verdict:
    from .backends.cache import default_folder

    folder = default_folder()
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    detail = f"{folder}, {_gigabytes(free)} free"
    remedy = "Name another folder: export OCCAM_CACHE_DIR=/path/with/space"
    if not os.access(place, os.W_OK | os.X_OK):
        return _problem(f"{detail}, but {place} cannot be written to", remedy)
    if free < MIN_FREE_BYTES:
        return _problem(f"{detail}: too little for engines", remedy)
    return _ok(detail)


def _engine_cache() -> _Verdict:
    from .backends.cache import EngineCache

    cache = EngineCache()
    damaged = [path for path, _ in cache.damaged()]
    if damaged:
        names = " ".join(f"'{path}'" for path in damaged)
        return _problem(f"{len(damaged)} damaged in {cache.folder}", f"Delete them: rm {names}")
    return _ok(f"{len(list(cache.entries()))} engines, none damaged")


def _listed(items: Sequence[str]) -> str:
    more = len(items) - MAX_LISTED
    return ", ".join(items[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _and(found: dict[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in found.items())


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
