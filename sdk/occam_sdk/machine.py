"""Facts about this machine, each read where the system tells it and never assumed.

What the system does not tell is None or empty. Functions that read files take the ``root`` of the
file system, so that another machine's files can be looked at too.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
INT8_FLAGS: Final = frozenset({"avx512_vnni", "avx_vnni"})  # AMX has no CPU without the first
PACKAGES: Final = (
    "occam-sdk", "openvino", "onnxruntime", "onnxruntime-gpu", "numpy", "av", "opencv-python",
    "opencv-python-headless", "opensmile",
)  # fmt: skip
TENSORRT_PACKAGES: Final = (
    "tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11", "tensorrt-cu13-bindings",
    "tensorrt-cu12-bindings", "tensorrt-bindings",
)  # fmt: skip
NVPMODEL_TIMEOUT_S: Final = 5.0
_NVIDIA: Final = "0x10de"  # vendor on the PCI bus
_DISPLAY: Final = "0x03"  # class of display controllers on the PCI bus, 3D controllers among them
_RAILS: Final = (1, 2, 3)  # of an INA3221; what a driver numbers higher are sums and shunts

# /proc/cpuinfo of Arm names no model, or just "ARMv8 Processor": implementer and part are as in
# Linux's cputype.h.
_ARM_PARTS: Final = {
    ("0x41", "0xd03"): "Arm Cortex-A53",
    ("0x41", "0xd05"): "Arm Cortex-A55",
    ("0x41", "0xd07"): "Arm Cortex-A57",
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0b"): "Arm Cortex-A76",
    ("0x41", "0xd0c"): "Arm Neoverse-N1",
    ("0x41", "0xd40"): "Arm Neoverse-V1",
    ("0x41", "0xd42"): "Arm Cortex-A78AE",
    ("0x41", "0xd49"): "Arm Neoverse-N2",
    ("0x41", "0xd4f"): "Arm Neoverse-V2",
    ("0x41", "0xd83"): "Arm Neoverse-V3AE",
    ("0x4e", "0x003"): "NVIDIA Denver 2",
    ("0x4e", "0x004"): "NVIDIA Carmel",
}


@dataclass(frozen=True)
class Jetson:
    """What a Jetson says of itself.

    Attributes:
        model: as "NVIDIA Jetson Orin Nano Developer Kit".
        l4t: release of Jetson Linux, as "36.4.3"; None in a container that is not shown it.
        jetpack: version of the package nvidia-jetpack, as "6.2+b77"; None if it is not installed.
        power_mode: as "MAXN", or the mode's number if only that is told.
    """

    model: str
    l4t: str | None
    jetpack: str | None
    power_mode: str | None


@dataclass(frozen=True)
class Cuda:
    """What NVIDIA's driver says.

    Attributes:
        version: the newest CUDA that the driver can serve, as "12.6".
        devices: their names, by CUDA's number; none if the driver finds or starts none.
    """

    version: str
    devices: tuple[str, ...]


def cpu_model(root: Path = ROOT) -> str | None:
    """The CPU's name.

    Example:
        >>> cpu_model(Path("nowhere")) is None
        True
    """
    facts = _first_cpu(root)
    implementer, part = facts.get("CPU implementer"), facts.get("CPU part")
    if implementer is None or part is None:
        return " ".join(facts.get("model name", "").split()) or None
    return _ARM_PARTS.get((implementer, part), f"Arm, implementer {implementer}, part {part}")


def cpu_flags(root: Path = ROOT) -> frozenset[str]:
    """What the CPU can do, in Linux's words: ``flags`` on x86, ``Features`` on Arm."""
    facts = _first_cpu(root)
    return frozenset((facts.get("flags") or facts.get("Features") or "").split())


def has_vnni(root: Path = ROOT) -> bool | None:
    """Whether an x86 CPU multiplies and adds INT8 in one step; None on others."""
    flags = _first_cpu(root).get("flags")
    return None if flags is None else not INT8_FLAGS.isdisjoint(flags.split())


def physical_cores(root: Path = ROOT) -> int | None:
    """Cores that are switched on; threads of one core count once."""
    lists = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    return len({_read(siblings) for siblings in lists} - {None}) or None


def logical_cores(root: Path = ROOT) -> int | None:
    """Threads that the cores which are switched on run at once."""
    online = _read(root / "sys/devices/system/cpu/online")
    if not online:
        return None
    ranges = (part.partition("-") for part in online.split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


def usable_cores() -> int:
    """How many this process may use, which may be fewer than there are."""
    return len(os.sched_getaffinity(0))


def scaling_governor(root: Path = ROOT) -> str | None:
    """How the clock is set, as "performance" or "schedutil"; None in most virtual machines."""
    return _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def memory_bytes(root: Path = ROOT) -> int | None:
    """The machine's whole memory; a container may be allowed less."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def system_name(root: Path = ROOT) -> str | None:
    """The distribution, as "Ubuntu 22.04.5 LTS"."""
    found = re.search(
        r'^PRETTY_NAME="?(.*?)"?$', _read(root / "etc/os-release") or "", re.MULTILINE
    )
    return found[1] if found else None


def board_model(root: Path = ROOT) -> str | None:
    """The board's name, as "Raspberry Pi 5 Model B Rev 1.0"; PCs have none."""
    return _read(root / "proc/device-tree/model")


def is_jetson(root: Path = ROOT) -> bool:
    """Whether this is a Jetson; a container on one is shown the board's name alone."""
    return "Jetson" in (board_model(root) or "") or (root / "etc/nv_tegra_release").exists()


def jetson(root: Path = ROOT) -> Jetson | None:
    """What a Jetson says of itself; None on other machines."""
    if not is_jetson(root):
        return None
    release = _read(root / "etc/nv_tegra_release") or ""
    found = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", release)
    return Jetson(
        model=board_model(root) or "Jetson",
        l4t=f"{found[1]}.{found[2]}" if found else None,
        jetpack=_debian_version(root, "nvidia-jetpack"),
        power_mode=_power_mode(root),
    )


def power_mw(root: Path = ROOT) -> dict[str, float]:
    """What a Jetson's sensors measure now, in milliwatts by rail; empty elsewhere.

    ``VDD_IN`` or ``POM_5V_IN``, where there is one, is the whole module; ``VDD_GPU_SOC`` and the like
    are parts of it.
    """
    rails: dict[str, float] = {}
    drivers = root / "sys/bus/i2c/drivers"
    for sensor in sorted(drivers.glob("ina3221/*/hwmon/hwmon*")):
        for number in _RAILS:
            label = _read(sensor / f"in{number}_label")
            current_ma = _number(sensor / f"curr{number}_input")
            voltage_mv = _number(sensor / f"in{number}_input")
            if label and current_ma is not None and voltage_mv is not None:
                rails[label] = current_ma * voltage_mv / 1000
    for sensor in sorted(drivers.glob("ina3221x/*/iio:device*")):  # JetPack 4
        for number in range(len(_RAILS)):
            label = _read(sensor / f"rail_name_{number}")
            power = _number(sensor / f"in_power{number}_input")
            if label and power is not None:
                rails[label] = power
    return rails


def has_nvidia_gpu(root: Path = ROOT) -> bool:
    """Whether the machine has a GPU of NVIDIA's, usable or not."""
    if is_jetson(root) or (root / "dev/nvidiactl").exists():
        return True
    return any(
        _read(device / "vendor") == _NVIDIA and (_read(device / "class") or "").startswith(_DISPLAY)
        for device in (root / "sys/bus/pci/devices").glob("*")
    )


def cuda() -> Cuda | None:
    """What NVIDIA's driver says; None where its library is not there or does not answer.

    It starts the driver in this process: one that is going to fork asks in a child of its own.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return Cuda(f"{version.value // 1000}.{version.value % 1000 // 10}", _cuda_devices(driver))


def tensorrt_version() -> str | None:
    """Version of TensorRT's Python package, without importing it."""
    for name in TENSORRT_PACKAGES:
        version = _version(name)
        if version is not None:
            return version
    spec = find_spec("tensorrt")  # JetPack's may come without metadata
    source = None if spec is None or spec.origin is None else _read(Path(spec.origin))
    found = re.search(r"^__version__\s*=\s*[\"'](.+?)[\"']", source or "", re.MULTILINE)
    return found[1] if found else None


def has_module(name: str) -> bool:
    """Whether there is a module to import, without importing it.

    A folder without code is none: type stubs, or what was left behind when a package was removed.

    Example:
        >>> has_module("json"), has_module("no_such_module")
        (True, False)
    """
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of those of the distributions that are installed, without importing them.

    Example:
        >>> sorted(versions(("numpy", "no-such-package")))
        ['numpy']
    """
    found = {name: _version(name) for name in names}
    return {name: version for name, version in found.items() if version is not None}


def cameras(root: Path = ROOT) -> dict[Path, str]:
    """Video devices and their names; some cameras have a second one for metadata."""
    devices = sorted(
        (root / "dev").glob("video[0-9]*"), key=lambda device: int(device.name[len("video") :])
    )
    return {
        device: _read(root / "sys/class/video4linux" / device.name / "name") or "unnamed"
        for device in devices
    }


def microphones(root: Path = ROOT) -> dict[Path, str]:
    """ALSA's devices that record, and their names.

    Without ALSA's own list the devices are told from their file names: ``pcmC0D0c`` captures.
    """
    listed = re.findall(
        r"^(\d+)-(\d+): (.*?) : .*\bcapture\b", _read(root / "proc/asound/pcm") or "", re.MULTILINE
    )
    folder = root / "dev/snd"
    if listed:
        return {folder / f"pcmC{int(card)}D{int(pcm)}c": name for card, pcm, name in listed}
    return {device: device.name for device in sorted(folder.glob("pcmC*D*c"))}


def _first_cpu(root: Path) -> dict[str, str]:
    """What /proc/cpuinfo says of the first CPU; big machines list hundreds."""
    facts: dict[str, str] = {}
    for line in _lines(root / "proc/cpuinfo"):
        name, _, value = line.partition(":")
        if not name.strip() and facts:
            break
        facts[name.strip()] = value.strip()
    return facts


def _debian_version(root: Path, package: str) -> str | None:
    """Of an installed package of the system's."""
    wanted = installed = False
    for line in _lines(root / "var/lib/dpkg/status"):
        if line.startswith("Package: "):
            wanted, installed = line.split()[1] == package, False
        elif wanted and line.startswith("Status: "):
            installed = line.split()[-1] == "installed"
        elif wanted and installed and line.startswith("Version: "):
            return line.split()[1]
    return None


def _power_mode(root: Path) -> str | None:
    program = root / "usr/sbin/nvpmodel"
    if program.is_file():
        try:
            told = subprocess.run(  # noqa: S603 - the system's own program
                [str(program), "-q"],
                capture_output=True,
                text=True,
                check=False,
                timeout=NVPMODEL_TIMEOUT_S,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            told = ""  # the file below says it too
        found = re.search(r"Power Mode:\s*(\S+)", told)
        if found:
            return found[1]
    found = re.search(r"pmode:0*(\d+)", _read(root / "var/lib/nvpmodel/status") or "")
    return found[1] if found else None


def _cuda_devices(driver: ctypes.CDLL) -> tuple[str, ...]:
    count, device, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(256)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    names = []
    for number in range(count.value):
        failed = driver.cuDeviceGet(ctypes.byref(device), number) or driver.cuDeviceGetName(
            name, len(name), device
        )
        names.append("unnamed" if failed else name.value.decode(errors="replace"))
    return tuple(names)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str | None:
    """A small file's text; None if there is none, or the system does not let us read it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\n")
    except OSError:
        return None


def _number(path: Path) -> float | None:
    """A sensor's value; one that is switched off cannot be read."""
    text = _read(path) or ""
    return float(text) if re.fullmatch(r"-?\d+", text) else None


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, read as they are asked for; none if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from file
    except OSError:
        return
