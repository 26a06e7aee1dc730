"""Facts about machines that are not this one, from the files that they show."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from occam_sdk import machine

X86_FLAGS = "fpu sse4_2 avx avx2 fma avx512f"


def put(root: Path, files: dict[str, str]) -> Path:
    """Write files under a root, which is returned."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def cpus(count: int, threads_per_core: int = 1) -> dict[str, str]:
    """What /sys says of CPUs whose threads are numbered core by core."""
    place = "sys/devices/system/cpu"
    files = {f"{place}/online": f"0-{count - 1}\n"}
    for number in range(count):
        first = number - number % threads_per_core
        siblings = ",".join(str(first + thread) for thread in range(threads_per_core))
        files[f"{place}/cpu{number}/topology/thread_siblings_list"] = f"{siblings}\n"
    return files


def x86(root: Path, *, vnni: str = "avx512_vnni") -> Path:
    """A PC with two cores of two threads, whose second CPU is told with other flags."""
    cpu = "processor\t: {}\nvendor_id\t: GenuineIntel\nmodel name\t: Some  CPU @ 2 GHz\nflags\t\t: {}\n\n"
    return put(
        root,
        {
            "proc/cpuinfo": cpu.format(0, f"{X86_FLAGS} {vnni}") + cpu.format(1, "fpu"),
            "proc/meminfo": "MemTotal:        8000000 kB\nMemFree:         100 kB\n",
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
            **cpus(4, threads_per_core=2),
        },
    )


def arm_board(root: Path) -> Path:
    """A board with an Arm CPU and no GPU of NVIDIA's."""
    return put(
        root,
        {
            "proc/cpuinfo": (
                "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd asimddp\n"
                "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nModel\t\t: Some board\n"
            ),
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            **cpus(4),
        },
    )


def jetson(root: Path) -> Path:
    """A Jetson Orin Nano with JetPack 6.2, in mode 2, one rail of its sensor switched off."""
    sensor = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    return put(
        root,
        {
            "proc/cpuinfo": (
                "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n"
                "Features\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n\n"
            ),
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
            "var/lib/dpkg/status": (
                "Package: nvidia-jetpack-dev\nStatus: install ok installed\nVersion: 0\n\n"
                "Package: nvidia-jetpack\nStatus: install ok installed\n"
                "Architecture: arm64\nVersion: 6.2+b77\n\n"
            ),
            "var/lib/nvpmodel/status": "pmode:0002\n",
            f"{sensor}/in1_label": "VDD_IN\n",
            f"{sensor}/in1_input": "5000\n",
            f"{sensor}/curr1_input": "1200\n",
            f"{sensor}/in2_label": "VDD_CPU_GPU_CV\n",
            f"{sensor}/in2_input": "5000\n",
            f"{sensor}/in7_label": "sum of shunt voltages\n",
            f"{sensor}/in7_input": "20\n",
            **cpus(6),
        },
    )


def program(path: Path, script: str) -> None:
    """A program of the fake machine's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_pc(tmp_path: Path) -> None:
    root = x86(tmp_path)
    assert machine.cpu_model(root) == "Some CPU @ 2 GHz"
    assert {"avx2", "avx512_vnni"} <= machine.cpu_flags(root)
    assert (machine.physical_cores(root), machine.logical_cores(root)) == (2, 4)
    assert machine.scaling_governor(root) == "performance"
    assert machine.memory_bytes(root) == 8_192_000_000
    assert machine.system_name(root) == "Ubuntu 24.04.1 LTS"
    assert machine.board_model(root) is None
    assert machine.jetson(root) is None
    assert machine.power_mw(root) == {}
    assert not machine.has_nvidia_gpu(root)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda root: x86(root), True),
        (lambda root: x86(root, vnni="avx_vnni"), True),
        (lambda root: x86(root, vnni=""), False),
        (arm_board, None),
        (lambda root: root, None),
    ],
)
def test_vnni_is_told_of_x86_alone(
    make: Callable[[Path], Path], expected: bool | None, tmp_path: Path
) -> None:
    assert machine.has_vnni(make(tmp_path)) is expected


def test_an_arm_board(tmp_path: Path) -> None:
    root = arm_board(tmp_path)
    assert machine.cpu_model(root) == "Arm Cortex-A76"
    assert machine.cpu_flags(root) == {"fp", "asimd", "asimddp"}
    assert (machine.physical_cores(root), machine.logical_cores(root)) == (4, 4)
    assert machine.board_model(root) == "Raspberry Pi 5 Model B Rev 1.0"
    assert machine.jetson(root) is None
    assert not machine.has_nvidia_gpu(root)


def test_an_arm_cpu_that_nobody_has_met_is_told_by_its_numbers(tmp_path: Path) -> None:
    root = put(tmp_path, {"proc/cpuinfo": "CPU implementer\t: 0x99\nCPU part\t: 0x123\n"})
    assert machine.cpu_model(root) == "Arm, implementer 0x99, part 0x123"


def test_a_jetson(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    assert machine.jetson(root) == machine.Jetson(
        "NVIDIA Jetson Orin Nano Developer Kit", "36.4.3", "6.2+b77", "2"
    )
    assert machine.cpu_model(root) == "Arm Cortex-A78AE"
    assert machine.has_nvidia_gpu(root)
    assert machine.power_mw(root) == {"VDD_IN": 6000.0}


def test_a_jetson_in_a_container_shows_its_board_alone(tmp_path: Path) -> None:
    root = put(tmp_path, {"proc/device-tree/model": "Jetson-AGX\0"})
    assert machine.jetson(root) == machine.Jetson("Jetson-AGX", None, None, None)


def test_jetpack_that_was_removed_is_not_told(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    removed = "Package: nvidia-jetpack\nStatus: deinstall ok config-files\nVersion: 5.1\n\n"
    put(root, {"var/lib/dpkg/status": removed})
    found = machine.jetson(root)
    assert found is not None
    assert found.jetpack is None


def test_the_power_modes_name_comes_from_nvpmodel(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    program(root / "usr/sbin/nvpmodel", '[ "$1" = -q ] && echo "NV Power Mode: MAXN_SUPER"; echo 2')
    found = machine.jetson(root)
    assert found is not None
    assert found.power_mode == "MAXN_SUPER"


@pytest.mark.parametrize("script", ["exec sleep 60", "echo denied >&2; exit 1"])
def test_an_nvpmodel_that_does_not_answer_leaves_the_modes_number(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = jetson(tmp_path)
    program(root / "usr/sbin/nvpmodel", script)
    monkeypatch.setattr(machine, "NVPMODEL_TIMEOUT_S", 0.2)
    found = machine.jetson(root)
    assert found is not None
    assert found.power_mode == "2"


def test_the_sensors_of_jetpack_4_tell_power_themselves(tmp_path: Path) -> None:
    sensor = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{sensor}/rail_name_0": "POM_5V_IN\n", f"{sensor}/in_power0_input": "2345\n"}
    assert machine.power_mw(put(tmp_path, files)) == {"POM_5V_IN": 2345.0}


@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [
        ("0x10de", "0x030200", True),
        ("0x10de", "0x040300", False),  # the sound of a card that was passed on
        ("0x8086", "0x030000", False),
    ],
)
def test_nvidias_gpu_is_found_without_a_driver(
    vendor: str, kind: str, expected: bool, tmp_path: Path
) -> None:
    device = "sys/bus/pci/devices/0000:01:00.0"
    put(tmp_path, {f"{device}/vendor": f"{vendor}\n", f"{device}/class": f"{kind}\n"})
    assert machine.has_nvidia_gpu(tmp_path) is expected


def test_nothing_is_made_up_for_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    for fact in (
        machine.cpu_model, machine.physical_cores, machine.logical_cores, machine.memory_bytes,
        machine.scaling_governor, machine.system_name, machine.board_model, machine.jetson,
    ):  # fmt: skip
        assert fact(tmp_path) is None, fact.__name__
    for empty in (machine.cpu_flags, machine.power_mw, machine.cameras, machine.microphones):
        assert not empty(tmp_path), empty.__name__


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    for name in ("proc/cpuinfo", "proc/meminfo", "var/lib/dpkg/status"):
        (tmp_path / name).mkdir(parents=True)  # reading fails, for the superuser too
    put(tmp_path, {"proc/device-tree/model": "Jetson-AGX"})
    assert machine.cpu_model(tmp_path) is None
    assert machine.memory_bytes(tmp_path) is None
    assert machine.jetson(tmp_path) == machine.Jetson("Jetson-AGX", None, None, None)


class Driver:
    """NVIDIA's library, of which two GPUs can be seen and one can be named."""

    def __init__(self, *, starts: bool = True) -> None:
        self._starts = starts

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return 0 if self._starts else 100

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        device._obj.value = number
        return 0

    def cuDeviceGetName(self, name: Any, _size: int, device: ctypes.c_int) -> int:  # noqa: N802
        name.value = b"Orin"
        return device.value  # an error for all but the first


def test_cuda_tells_version_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver())
    assert machine.cuda() == machine.Cuda("12.6", ("Orin", "unnamed"))


def test_a_driver_that_starts_no_gpu_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(starts=False))
    assert machine.cuda() == machine.Cuda("12.6", ())


def test_no_driver_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert machine.cuda() is None


def distribution(folder: Path, name: str, version: str) -> None:
    """What pip writes down of a package."""
    put(
        folder,
        {
            f"{name.replace('-', '_')}-{version}.dist-info/METADATA": (
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
        },
    )


def test_versions_are_read_of_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "some-package", "1.2")
    monkeypatch.syspath_prepend(tmp_path)
    assert machine.versions(("some-package", "another-package")) == {"some-package": "1.2"}
    assert {"occam-sdk", "numpy", "av"} <= machine.versions().keys()


def test_tensorrt_is_known_by_any_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "tensorrt-cu12", "10.13.0.35")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert machine.tensorrt_version() == "10.13.0.35"


def test_a_tensorrt_without_metadata_is_known_by_its_source_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"tensorrt/__init__.py": 'raise ImportError\n__version__ = "10.3.0"\n'})
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert machine.tensorrt_version() == "10.3.0"


def test_no_tensorrt_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert machine.tensorrt_version() is None


def test_type_stubs_of_a_module_are_not_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"tensorrt/__init__.pyi": '__version__ = "10.3.0"\n'})
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not machine.has_module("tensorrt")
    assert machine.tensorrt_version() is None


def test_cameras_have_names_and_come_in_their_order(tmp_path: Path) -> None:
    files = {f"dev/video{number}": "" for number in (10, 0, 2)}
    put(tmp_path, {**files, "sys/class/video4linux/video2/name": "Some Webcam\n"})
    assert [(device.name, name) for device, name in machine.cameras(tmp_path).items()] == [
        ("video0", "unnamed"),
        ("video2", "Some Webcam"),
        ("video10", "unnamed"),
    ]


def test_microphones_are_what_alsa_captures_from(tmp_path: Path) -> None:
    pcm = (
        "00-00: ALC257 Analog : ALC257 Analog : playback 1 : capture 1\n"
        "00-03: HDMI 0 : HDMI 0 : playback 1\n"
        "01-00: USB Audio : USB Audio : capture 1\n"
    )
    put(tmp_path, {"proc/asound/pcm": pcm})
    assert [(device.name, name) for device, name in machine.microphones(tmp_path).items()] == [
        ("pcmC0D0c", "ALC257 Analog"),
        ("pcmC1D0c", "USB Audio"),
    ]


def test_microphones_are_found_without_alsas_list(tmp_path: Path) -> None:
    put(tmp_path, {"dev/snd/pcmC0D0c": "", "dev/snd/pcmC0D0p": ""})
    assert [device.name for device in machine.microphones(tmp_path)] == ["pcmC0D0c"]


def test_importing_the_package_does_not_load_it() -> None:
    code = "import sys, occam_sdk; print('occam_sdk.machine' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"
