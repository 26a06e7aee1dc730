"""What the doctor says of machines that are well, and of such as are not."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import namedtuple
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from occam_sdk import _doctor_command, doctor, machine
from occam_sdk.doctor import Finding, examine

from .bundles import write_bundle
from .soundcards import Card, Soundcards
from .test_machine import arm_board, jetson, put, x86

CHECKS = [
    "Python", "system", "CPU", "memory", "native core", "OpenVINO", "ONNX Runtime", "CUDA",
    "TensorRT", "Jetson", "FFmpeg", "OpenCV", "openSMILE", "camera", "microphone",
    "PortAudio", "window", "bundle", "cache folder", "engine cache",
]  # fmt: skip
NVIDIA_CARD = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
}


@pytest.fixture(autouse=True)
def _same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No NVIDIA driver, no TensorRT and a cache folder with space, wherever the tests run."""
    monkeypatch.setattr(machine, "cuda", lambda: None)
    monkeypatch.setattr(machine, "tensorrt_version", lambda: None)
    monkeypatch.setenv("OCCAM_CACHE_DIR", str(tmp_path / "cache"))
    have_disk(monkeypatch, free=10**10)


def have_disk(monkeypatch: pytest.MonkeyPatch, *, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free))


def have_distributions(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        machine, "versions", lambda wanted=names: {name: "1.0" for name in wanted if name in names}
    )


def have_module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin="here")
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def lack_module(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)


def break_module(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, error: str) -> None:
    """A package is there and fails when it is imported."""
    put(folder, {f"{name}.py": f"raise {error}\n"})
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)


def found(name: str, root: Path, bundle: Path | None = None) -> Finding:
    """The one finding of that name."""
    (finding,) = (finding for finding in examine(bundle, root=root) if finding.name == name)
    return finding


def test_a_healthy_machine_has_no_problems(tmp_path: Path) -> None:
    root = put(x86(tmp_path), {"dev/video0": "", "dev/snd/pcmC0D0c": ""})
    findings = examine(write_bundle(tmp_path / "bundle"), root=root)
    assert [finding.name for finding in findings] == CHECKS
    assert [finding for finding in findings if finding.state == "problem"] == []
    states = {finding.name: finding.state for finding in findings}
    needed = {"CPU", "memory", "native core", "OpenVINO", "FFmpeg", "OpenCV", "camera", "bundle"}
    assert {states[name] for name in needed} == {"ok"}
    assert states["CUDA"] == states["TensorRT"] == states["Jetson"] == "note"


def test_a_machine_that_tells_nothing_about_itself_still_gets_its_findings(tmp_path: Path) -> None:
    findings = examine(write_bundle(tmp_path / "bundle"), root=tmp_path / "nowhere")
    assert [finding.name for finding in findings] == CHECKS
    assert [finding for finding in findings if finding.state == "problem"] == []


def test_the_cpus_flags_are_told_as_far_as_they_matter(tmp_path: Path) -> None:
    cpu = found("CPU", x86(tmp_path))
    assert cpu.state == "ok"
    assert cpu.detail == (
        "Some CPU @ 2 GHz; 2 cores, 4 threads; avx2 avx512f avx512_vnni; governor performance"
    )


def test_an_x86_cpu_without_vnni_is_sent_to_float32(tmp_path: Path) -> None:
    cpu = found("CPU", x86(tmp_path, vnni=""))
    assert cpu.state == "note"
    assert "no VNNI" in cpu.detail
    assert 'precision="fp32"' in cpu.remedy


def test_an_arm_cpu_is_not_asked_for_vnni(tmp_path: Path) -> None:
    cpu = found("CPU", arm_board(tmp_path))
    assert cpu == Finding("CPU", "ok", "Arm Cortex-A76; 4 cores, 4 threads; asimd asimddp")


@pytest.mark.parametrize(
    ("version", "state"), [((3, 9), "problem"), ((3, 10), "ok"), ((3, 13), "ok"), ((3, 14), "note")]
)
def test_pythons_that_are_not_tested_are_told(
    version: tuple[int, int], state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    python = found("Python", tmp_path)
    assert python.state == state
    assert (state == "ok") is ("python3.13 -m venv" not in python.remedy)


def test_a_native_core_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lack_module(monkeypatch, "occam_sdk._core")
    core = found("native core", tmp_path)
    assert core.state == "problem"
    assert "pip install --force-reinstall --no-deps occam-sdk" in core.remedy


@pytest.mark.parametrize(
    ("check", "module", "command"),
    [
        ("OpenVINO", "openvino", "pip install openvino"),
        ("FFmpeg", "av", "pip install av"),
        ("OpenCV", "cv2", "pip install opencv-python-headless"),
    ],
)
def test_a_package_that_is_needed_and_not_installed(
    check: str, module: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack_module(monkeypatch, module)
    finding = found(check, tmp_path)
    assert finding == Finding(check, "problem", "not installed", f"Install it: {command}")


@pytest.mark.parametrize("error", ["ImportError('no libsomething.so')", "OSError('no such file')"])
def test_a_package_that_does_not_load(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_module(monkeypatch, tmp_path / "path", "openvino", error)
    openvino = found("OpenVINO", tmp_path)
    assert openvino.state == "problem"
    assert openvino.detail.startswith("installed, but does not load: no ")
    assert openvino.remedy == "Install it again: pip install --force-reinstall openvino"


def test_openvinos_devices_have_their_full_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Core:
        available_devices = ("CPU", "GPU.0", "NPU", "XPU")

        def get_property(self, device: str, name: str) -> str:
            return f"the {device}'s {name} "

    have_module(monkeypatch, "openvino", Core=Core, __version__="2026.4.1-22982-e213a147257")
    assert found("OpenVINO", tmp_path).detail == (
        "2026.4.1, CPU (the CPU's FULL_DEVICE_NAME), GPU.0 (the GPU.0's FULL_DEVICE_NAME), "
        "NPU (the NPU's FULL_DEVICE_NAME) and 1 more"
    )


def test_an_openvino_that_sees_no_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        available_devices: tuple[str, ...] = ()

    have_module(monkeypatch, "openvino", Core=Core, __version__="2026.4")
    openvino = found("OpenVINO", tmp_path)
    assert openvino.state == "problem"
    assert "sees no CPU, only nothing" in openvino.detail
    assert "--force-reinstall openvino" in openvino.remedy


def test_onnx_runtime_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have_distributions(monkeypatch)
    lack_module(monkeypatch, "onnxruntime")
    runtime = found("ONNX Runtime", tmp_path)
    assert runtime.state == "note"
    assert runtime.remedy.endswith('pip install "occam-sdk[onnxruntime]"')


@pytest.mark.parametrize(("files", "keep"), [({}, "onnxruntime"), (NVIDIA_CARD, "onnxruntime-gpu")])
def test_two_builds_of_onnx_runtime(
    files: dict[str, str], keep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_distributions(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    runtime = found("ONNX Runtime", put(tmp_path, files))
    assert runtime.state == "problem"
    assert runtime.remedy == (
        f"Keep one: pip uninstall -y onnxruntime onnxruntime-gpu && pip install {keep}"
    )


@pytest.mark.parametrize(
    ("providers", "state"),
    [(["CPUExecutionProvider"], "note"), (["CUDAExecutionProvider", "CPUExecutionProvider"], "ok")],
)
def test_an_onnx_runtime_that_leaves_the_gpu_unused(
    providers: list[str], state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_distributions(monkeypatch, "onnxruntime")
    have_module(
        monkeypatch, "onnxruntime", __version__="1.30", get_available_providers=lambda: providers
    )
    runtime = found("ONNX Runtime", put(tmp_path, NVIDIA_CARD))
    assert runtime.state == state
    assert ("pip install onnxruntime-gpu" in runtime.remedy) is (state == "note")


def test_an_nvidia_gpu_without_its_libraries_is_a_problem(tmp_path: Path) -> None:
    root = put(x86(tmp_path), NVIDIA_CARD)
    cuda, tensorrt = found("CUDA", root), found("TensorRT", root)
    assert cuda.state == tensorrt.state == "problem"
    assert "libcuda.so.1 does not load" in cuda.detail
    assert "sudo ubuntu-drivers install" in cuda.remedy
    assert "docker run --gpus all" in cuda.remedy
    assert tensorrt.remedy == 'Install it: pip install "occam-sdk[tensorrt]"'


def test_a_driver_that_starts_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda("12.6", ()))
    cuda = found("CUDA", put(x86(tmp_path), NVIDIA_CARD))
    assert cuda.state == "problem"
    assert "the driver for CUDA 12.6 starts none" in cuda.detail


def test_a_gpu_that_only_the_driver_shows_needs_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda("12.6", ("A GPU",)))
    lack_module(monkeypatch, "tensorrt")
    assert found("CUDA", tmp_path).detail == "driver for CUDA 12.6, A GPU"
    assert found("TensorRT", tmp_path).state == "problem"


def test_a_gpu_with_its_libraries_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda("12.6", ("A GPU",)))
    monkeypatch.setattr(machine, "tensorrt_version", lambda: "10.13")
    have_module(monkeypatch, "tensorrt", __version__="10.13.0.35")
    root = put(x86(tmp_path), NVIDIA_CARD)
    assert found("CUDA", root).state == "ok"
    assert found("TensorRT", root) == Finding("TensorRT", "ok", "10.13.0.35")


def test_a_jetson_tells_its_release_mode_and_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cuda", lambda: machine.Cuda("12.6", ("Orin",)))
    board = found("Jetson", jetson(tmp_path))
    assert board == Finding(
        "Jetson",
        "ok",
        "NVIDIA Jetson Orin Nano Developer Kit, L4T 36.4.3, JetPack 6.2+b77, power mode 2, "
        "VDD_IN 6.0 W",
    )


def test_a_jetson_whose_python_does_not_see_tensorrt(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    tensorrt, cuda = found("TensorRT", root), found("CUDA", root)
    assert tensorrt.state == cuda.state == "problem"
    assert "python3 -m venv --system-site-packages" in tensorrt.remedy
    assert "docker run --runtime nvidia" in cuda.remedy


def test_a_jetson_without_jetpack(tmp_path: Path) -> None:
    root = jetson(tmp_path)
    (root / "var/lib/dpkg/status").unlink()
    board = found("Jetson", root)
    assert board.state == "note"
    assert board.remedy.endswith("sudo apt install nvidia-jetpack")


def test_decoders_that_ffmpeg_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.DECODERS, "hevc", ("no_such_decoder",))
    ffmpeg = found("FFmpeg", tmp_path)
    assert ffmpeg.state == "problem"
    assert ffmpeg.detail.endswith("cannot decode hevc")
    assert "--only-binary av av" in ffmpeg.remedy


def test_an_encoder_is_no_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.DECODERS, "h264", ("libx264",))
    assert found("FFmpeg", tmp_path).detail.endswith("cannot decode h264")


def test_two_packages_that_own_cv2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have_distributions(monkeypatch, "opencv-python", "opencv-python-headless")
    opencv = found("OpenCV", tmp_path)
    assert opencv.state == "problem"
    assert opencv.remedy == (
        "Keep one: pip uninstall -y opencv-python opencv-python-headless "
        "&& pip install opencv-python-headless"
    )


def test_an_opencv_without_its_graphics_library_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_distributions(monkeypatch, "opencv-python")
    break_module(monkeypatch, tmp_path / "path", "cv2", "ImportError('libGL.so.1')")
    opencv = found("OpenCV", tmp_path)
    assert opencv.detail == "installed, but does not load: libGL.so.1"
    assert opencv.remedy == (
        "Install it again: pip uninstall -y opencv-python && pip install opencv-python-headless"
    )


def test_opensmile_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lack_module(monkeypatch, "opensmile")
    voice = found("openSMILE", tmp_path)
    assert voice.state == "note"
    assert voice.remedy.endswith('pip install "occam-sdk[audio]"')


def test_opensmiles_licence_is_told(tmp_path: Path) -> None:
    pytest.importorskip("opensmile", reason="the extra 'audio' is not installed")
    assert "research and private use only" in found("openSMILE", tmp_path).detail


def test_an_opensmile_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_module(monkeypatch, tmp_path / "path", "opensmile", "OSError('libSMILEapi.so')")
    voice = found("openSMILE", tmp_path)
    assert voice.state == "problem"
    assert 'pip install --force-reinstall "opensmile>=2.6"' in voice.remedy


def test_a_microphone_needs_a_package_and_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack_module(monkeypatch, "sounddevice")
    sound = found("PortAudio", tmp_path)
    assert sound.state == "note"
    assert sound.remedy.endswith('pip install "occam-sdk[live]"')
    break_module(monkeypatch, tmp_path / "path", "sounddevice", "OSError('no PortAudio')")
    sound = found("PortAudio", tmp_path)
    assert sound.state == "problem"
    assert sound.remedy.endswith("sudo apt install libportaudio2")


def test_portaudio_tells_its_microphones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Soundcards(Card("built-in"), Card("speakers", inputs=0), Card("USB"))
    cards.__spec__ = ModuleSpec("sounddevice", None, origin="here")
    monkeypatch.setitem(sys.modules, "sounddevice", cards)
    sound = found("PortAudio", tmp_path)
    assert sound.state == "ok"
    assert sound.detail.endswith("microphones: 0 (built-in), 2 (USB)")


def test_a_window_needs_tkinter_and_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_module(monkeypatch, "_tkinter")
    monkeypatch.setenv("DISPLAY", ":5")
    assert found("window", tmp_path) == Finding("window", "ok", "tkinter, display :5")
    monkeypatch.delenv("DISPLAY")
    assert "no display" in found("window", tmp_path).detail
    lack_module(monkeypatch, "_tkinter")
    assert "sudo apt install python3-tk" in found("window", tmp_path).remedy


@pytest.mark.parametrize(
    ("check", "device", "group"),
    [("camera", "dev/video0", "video"), ("microphone", "dev/snd/pcmC0D0c", "audio")],
)
def test_a_device_that_may_not_be_read(
    check: str, device: str, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = put(tmp_path, {device: ""})
    assert found(check, root).state == "ok"
    may = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != root / device and may(path, mode)
    )
    finding = found(check, root)
    assert finding.state == "problem"
    assert f"sudo usermod -aG {group} $USER" in finding.remedy
    assert f"--device {root / device}" in finding.remedy


def test_many_devices_do_not_flood_the_screen(tmp_path: Path) -> None:
    root = put(tmp_path, {f"dev/video{number}": "" for number in range(20)})
    assert found("camera", root).detail.endswith("video2 (unnamed) and 17 more")


def test_a_changed_bundle(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "expression.onnx").write_bytes(b"the netwerk expression.onnx")
    finding = found("bundle", tmp_path, bundle)
    assert finding.state == "problem"
    assert "expression.onnx" in finding.detail
    assert "fresh copy" in finding.detail
    assert "--bundle" in finding.remedy


def test_a_changed_packaged_bundle_is_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("occam_sdk.bundle.DEFAULT_BUNDLE", tmp_path / "nothing")
    finding = found("bundle", tmp_path)
    assert finding.state == "problem"
    assert "pip install --force-reinstall --no-deps occam-sdk" in finding.remedy


def test_a_cache_folder_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have_disk(monkeypatch, free=10**8)
    cache = found("cache folder", tmp_path)
    assert cache.state == "problem"
    assert "0.1 GB free: too little" in cache.detail
    assert "export OCCAM_CACHE_DIR=" in cache.remedy


def test_a_cache_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    cache = found("cache folder", tmp_path)
    assert cache.state == "problem"
    assert "cannot be written to" in cache.detail
    assert not list(tmp_path.glob("cache/*"))


def test_a_check_that_crashes_is_a_problem_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(root: Path) -> int:
        raise RuntimeError(f"nobody thought of {root.name}")

    monkeypatch.setattr(machine, "memory_bytes", crash)
    findings = examine(root=tmp_path)
    assert [finding.name for finding in findings] == CHECKS
    memory = findings[CHECKS.index("memory")]
    assert memory.state == "problem"
    assert f"RuntimeError: nobody thought of {tmp_path.name}" in memory.detail
    assert memory.remedy


OK = Finding("OpenVINO", "ok", "2026.4.1, CPU")
NOTE = Finding("ONNX Runtime", "note", "not installed", 'Get it: pip install "some[extra]"')
PROBLEM = Finding(
    "bundle", "problem", "[red]x: " + "long " * 40, "Mend it: " + "now! " * 40 + "now"
)


def occam_doctor(
    monkeypatch: pytest.MonkeyPatch,
    findings: tuple[Finding, ...],
    *options: str,
    charset: str = "utf-8",
) -> Any:
    """Run the command in a terminal of 80 columns, on a machine of which this is found."""
    monkeypatch.setattr(_doctor_command, "examine", lambda _: findings)
    monkeypatch.setenv("COLUMNS", "80")
    app = typer.Typer()
    app.callback()(lambda: None)
    _doctor_command.register(app)
    return CliRunner(charset=charset).invoke(app, ["doctor", *options])


@pytest.mark.parametrize(("findings", "code"), [((OK, NOTE), 0), ((OK, PROBLEM, NOTE), 1)])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_exit_code_says_whether_there_is_a_problem(
    options: tuple[str, ...],
    findings: tuple[Finding, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert occam_doctor(monkeypatch, findings, *options).exit_code == code


def test_json_is_the_list_of_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    told = occam_doctor(monkeypatch, (OK, NOTE, PROBLEM), "--json").stdout
    assert [Finding(**finding) for finding in json.loads(told)] == [OK, NOTE, PROBLEM]


def test_the_table_fits_and_every_remedy_is_one_line_below_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = occam_doctor(monkeypatch, (OK, NOTE, PROBLEM)).stdout
    table, to_mend, to_know, verdict = told.strip().split("\n\n")
    assert [line.split()[0] for line in table.splitlines()[:3]] == ["✓", "•", "✗"]
    assert max(map(len, table.splitlines())) <= 80
    assert "[red]x" in table
    assert to_mend == f"To mend\n ✗ bundle: {PROBLEM.remedy}"
    assert to_know == f"Worth knowing\n • ONNX Runtime: {NOTE.remedy}"
    assert verdict == "1 problem"


def test_a_healthy_machine_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told = occam_doctor(monkeypatch, (OK,)).stdout
    assert told.endswith("no problems\n")
    assert "To mend" not in told


def test_a_terminal_without_utf8_gets_plain_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    told = occam_doctor(monkeypatch, (OK, NOTE, PROBLEM), charset="ascii")
    assert told.exit_code == 1
    assert [line.split()[0] for line in told.stdout.splitlines()[:3]] == ["+", "-", "X"]


def test_the_command_examines_the_bundle_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def examine_nothing(bundle: Path | None) -> tuple[Finding, ...]:
        asked.append(bundle)
        return ()

    app = typer.Typer()
    app.callback()(lambda: None)
    _doctor_command.register(app)
    monkeypatch.setattr(_doctor_command, "examine", examine_nothing)
    for options in ([], ["--bundle", str(tmp_path)]):
        assert CliRunner().invoke(app, ["doctor", *options]).exit_code == 0
    assert asked == [None, tmp_path]
