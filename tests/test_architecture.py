"""Imports point one way, runtimes load late, and the product knows nothing of its training."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SDK = Path(__file__).parents[1] / "sdk"
PACKAGE = "occam_sdk"

LAYERS = (
    {"__version__", "_core", "ahead", "demo", "errors", "labels", "machine"},
    {"scores", "types"},
    {"_batch_rows", "backends", "media"},
    {"_batch_journal", "bundle"},
    {"audio", "video"},
    {"encode", "fusion", "segments", "sources", "stretches", "window"},
    {"microphone"},
    {"pipeline", "stills", "stream"},
    {"annotate", "doctor", "formats", "plot", "recognizer", "report", "verify"},
    {"_batch_judge"},
    {"_batch_ray", "_batch_workers"},
    {"batch"},
    {"_judge", "_live_window", "_options"},
    {
        "_batch_command",
        "_doctor_command",
        "_live_command",
        "_results_commands",
        "_runtime_commands",
    },
    {"__main__"},
)
"""A module imports only what stands in a line above its own."""

STAGES = {"audio", "video"}
OUTSIDE = {"torch", "training", "export", "benchmarks", "tests"}
HEAVY = (
    "numpy",
    "cv2",
    "av",
    "openvino",
    "opensmile",
    "sounddevice",
    "tkinter",
    "torch",
    "typer",
    "rich",
)
RUNTIMES = {
    "openvino": "backends/openvino.py",
    "onnxruntime": "backends/onnxruntime.py",
    "tensorrt": "backends/tensorrt.py",
    "opensmile": "audio/features.py",
    "sounddevice": "microphone.py",
    "tkinter": "_live_window.py",
}
"""The only file that may import each."""

FILES = sorted(path.relative_to(SDK / PACKAGE).as_posix() for path in SDK.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES)


def _tree(file: str) -> ast.Module:
    return ast.parse((SDK / PACKAGE / file).read_text(encoding="utf-8"))


def _module(file: str) -> tuple[str, ...]:
    """("video", "align") of "video/align.py", ("video",) of "video/__init__.py"."""
    parts = Path(file).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _imports(node: ast.AST, file: str) -> Iterator[tuple[str, ...]]:
    """Every import under ``node``, absolute: ("occam_sdk", "video", "align", "align_face")."""
    package = (PACKAGE, *Path(file).parts[:-1])
    for statement in ast.walk(node):
        if isinstance(statement, ast.Import):
            for name in statement.names:
                yield tuple(name.name.split("."))
        elif isinstance(statement, ast.ImportFrom):
            base = package[: len(package) - statement.level + 1] if statement.level else ()
            for name in statement.names:
                yield (*base, *(statement.module or "").split("."), name.name)


def _own(file: str) -> list[tuple[str, ...]]:
    """What a file imports of the package, as ("video", "align", "align_face")."""
    found = [tuple(filter(None, name)) for name in _imports(_tree(file), file)]
    return [name[1:] for name in found if name[0] == PACKAGE]


def _layer(module: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if module in layer)


def test_there_is_something_to_look_at() -> None:
    assert {"__init__.py", "recognizer.py", "video/align.py", "audio/features.py"} <= set(FILES)
    assert ("types", "Face") in _own("video/faces.py")
    assert ("_core",) in _own("video/aggregate.py")
    assert ("backends", "SessionInfo") in _own("backends/openvino.py")


@each_file
def test_every_module_has_its_place_in_the_layers(file: str) -> None:
    top = _module(file)[:1]
    assert not top or any(top[0] in layer for layer in LAYERS), f"add {file} to LAYERS"


# The package's own __init__ is left out: it only names what it loads on demand.
@pytest.mark.parametrize("file", [file for file in FILES if _module(file)])
def test_imports_point_one_way(file: str) -> None:
    module = _module(file)
    for name in _own(file):
        inside_backends = module[0] == name[0] == "backends"
        assert inside_backends or _layer(name[0]) < _layer(module[0]), f"{file} imports {name}"


@each_file
def test_a_stage_never_imports_another_stage(file: str) -> None:
    if _module(file)[:1] and _module(file)[0] in STAGES:
        assert not [name for name in _own(file) if name[0] in STAGES]


def test_fusion_needs_only_the_bundle_the_types_and_the_softmax() -> None:
    assert {name[0] for name in _own("fusion.py")} == {"bundle", "scores", "types"}


def test_only_what_decodes_opens_media() -> None:
    users = {file for file in FILES if "media" in {name[0] for name in _own(file)}}
    assert users <= {
        "audio/decode.py", "video/decode.py", "encode.py", "recognizer.py", "report.py", "sources.py",
        "_judge.py",
    }  # fmt: skip


def test_only_the_command_line_knows_the_command_lines_libraries() -> None:
    commands = ("_batch", "_doctor", "_live", "_results", "_runtime")
    named = (f"{name}_command{'s' * (name in ('_results', '_runtime'))}.py" for name in commands)
    command_line = ("__main__.py", "_judge.py", "_options.py", *named)
    for file in FILES:
        if file not in command_line:
            assert not {name[0] for name in _imports(_tree(file), file)} & {"typer", "rich"}, file


@each_file
def test_the_product_imports_nothing_of_its_training(file: str) -> None:
    assert not {name[0] for name in _imports(_tree(file), file)} & OUTSIDE


@each_file
def test_a_runtime_is_imported_in_its_own_file_only(file: str) -> None:
    used = {name[0] for name in _imports(_tree(file), file)} & RUNTIMES.keys()
    assert all(RUNTIMES[name] == file for name in used)


def test_opensmile_is_imported_inside_functions_only() -> None:
    tree = _tree("audio/features.py")
    functions = [
        n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    inside = [name for f in functions for name in _imports(f, "audio/features.py")]
    everywhere = list(_imports(tree, "audio/features.py"))
    assert inside.count(("opensmile",)) == everywhere.count(("opensmile",)) == 1


def test_a_runtimes_file_is_itself_imported_inside_functions_only() -> None:
    runtimes = {Path(file).stem for file in RUNTIMES.values() if file.startswith("backends/")}
    for file in FILES:
        for statement in _tree(file).body:
            if not isinstance(statement, ast.FunctionDef):
                late = [n for n in _imports(statement, file) if n[:2] == (PACKAGE, "backends")]
                assert not [name for name in late if name[2] in runtimes], file


def _loaded_by(code: str) -> set[str]:
    """Those of HEAVY that a fresh interpreter has loaded after running ``code`` silently."""
    tell = f"import json, sys; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tell}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    loaded: set[str] = set(json.loads(done.stdout))  # fails if the code printed something
    return loaded


def test_importing_the_package_loads_none_of_its_dependencies() -> None:
    assert _loaded_by("import occam_sdk; dir(occam_sdk); occam_sdk.LABELS") == set()


def test_types_need_numpy_alone() -> None:
    assert _loaded_by("import occam_sdk; occam_sdk.Face") == {"numpy"}


def test_the_recognizer_loads_no_runtime_before_it_is_made() -> None:
    assert _loaded_by("import occam_sdk; occam_sdk.Recognizer") <= {"numpy", "cv2", "av"}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is loaded is told by Linux")
def test_the_product_needs_nothing_of_a_display() -> None:
    """No libGL and no X11 of the system: a board without a screen has none (opencv-python needs them)."""
    code = (
        "import numpy as np; from occam_sdk import Recognizer\n"
        "with Recognizer() as recognizer: recognizer.predict_image(np.zeros((64, 64, 3), np.uint8))\n"
        "print(open('/proc/self/maps').read())"
    )
    maps = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    loaded = {Path(line.split()[-1]) for line in maps.splitlines() if ".so" in line}
    assert any(path.name.startswith("cv2.") for path in loaded)
    packages = {"site-packages", "dist-packages"}  # wheels bring libraries of their own
    system = {path.name for path in loaded if not packages & set(path.parts)}
    assert "libc.so.6" in system
    assert not {name for name in system if name.startswith(("libGL", "libEGL", "libX11", "libxcb"))}


def test_every_public_name_is_there() -> None:
    import occam_sdk

    assert sorted(occam_sdk.__all__) == sorted(set(occam_sdk.__all__))
    assert all(getattr(occam_sdk, name) is not None for name in occam_sdk.__all__)
    assert set(occam_sdk.__all__) <= set(dir(occam_sdk))
    with pytest.raises(AttributeError, match="no attribute 'Recogniser'"):
        occam_sdk.Recogniser  # noqa: B018
