"""Compiled engines are kept, read again where they fit, and made again with a reason where they do not."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from occam_sdk.backends import Runtime, Session, open_session
from occam_sdk.backends.cache import SUFFIX, EngineCache, EngineKey, default_folder
from occam_sdk.errors import BackendError

KEY = EngineKey("voice", "ab" * 32, "openvino", "2026.4.1", "a CPU", "fp32", "any, all threads")
ENGINE = b"an engine\nof several lines\n" * 100
OTHERS = {
    "network": "detector",
    "model_sha256": "ab" * 6 + "cd" * 26,  # as far as the file's name goes, the same
    "backend": "tensorrt",
    "version": "2026.5",
    "device": "another CPU",
    "precision": "int8",
    "shapes": "x 1x3, 4x3, 16x3",
}


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


# Keeping


def test_what_is_stored_is_read_back(cache: EngineCache) -> None:
    assert cache.load(KEY) == (None, "there was none")
    path = cache.store(KEY, ENGINE)
    assert path == cache.path(KEY)
    assert cache.load(KEY) == (ENGINE, "")
    assert list(cache.entries()) == [path]
    assert list(cache.damaged()) == []


def test_the_file_says_of_what_and_for_what_it_was_made(cache: EngineCache) -> None:
    path = cache.store(KEY, ENGINE)
    assert path.name == f"voice-fp32-openvino-{'ab' * 6}{SUFFIX}"
    header, _, content = path.read_bytes().partition(b"\n")
    assert json.loads(header).items() >= asdict(KEY).items()
    assert content == ENGINE


def test_a_later_engine_takes_the_place_of_the_one_before(cache: EngineCache) -> None:
    cache.store(KEY, b"first")
    cache.store(replace(KEY, version="2026.5"), b"second")
    assert len(list(cache.entries())) == 1
    assert cache.load(KEY) == (None, "version was 2026.5, is 2026.4.1")


def test_networks_and_precisions_are_kept_beside_one_another(cache: EngineCache) -> None:
    keys = [replace(KEY, network=n, precision=p) for n in ("face", "voice") for p in ("int8", "x")]
    for number, key in enumerate(keys):
        cache.store(key, bytes([number]))
    assert [cache.load(key)[0] for key in keys] == [b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize("network", ["../../voice", "/voice", "a b\n", "ü", ""])
def test_no_name_leads_out_of_the_folder(cache: EngineCache, network: str) -> None:
    key = replace(KEY, network=network)
    path = cache.store(key, ENGINE)
    assert path.resolve().parent == cache.folder.resolve()
    assert cache.load(key) == (ENGINE, "")


# What does not fit


def test_every_field_of_a_key_has_another_value_here() -> None:
    assert OTHERS.keys() == {field.name for field in fields(EngineKey)}
    assert all(OTHERS[name] != value for name, value in asdict(KEY).items())


@pytest.mark.parametrize("field", OTHERS)
def test_an_engine_of_another_key_is_not_read_and_the_reason_is_the_field(
    cache: EngineCache, field: str
) -> None:
    other = replace(KEY, **{field: OTHERS[field]})
    cache.store(other, ENGINE).replace(cache.path(KEY))
    engine, why = cache.load(KEY)
    assert engine is None
    assert why == f"{field.replace('_', ' ')} was {OTHERS[field]}, is {getattr(KEY, field)}"


def _cut(content: bytes) -> bytes:
    return content[:-1]


def _changed(content: bytes) -> bytes:
    return content[:-10] + bytes([content[-10] ^ 1]) + content[-9:]


DAMAGE = {
    "cut": (_cut, "it was cut or changed; delete the file"),
    "one bit changed": (_changed, "it was cut or changed; delete the file"),
    "longer": (lambda content: content + b"\0", "it was cut or changed; delete the file"),
    "only its header": (lambda content: content.partition(b"\n")[0], "it was cut or changed"),
    "empty": (lambda _: b"", "its first line is no key; delete the file"),
    "noise": (lambda _: np.random.default_rng(0).bytes(5000), "its first line is no key"),
    "zeros": (lambda _: bytes(100_000), "its first line is no key"),
    "no hash": (lambda _: b'{"network": "voice"}\nengine', "its first line is no key"),
    "a list": (lambda _: b"[]\nengine", "its first line is no key"),
    "brackets": (lambda _: b"[" * 100_000, "its first line is no key"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_reported_and_not_read(cache: EngineCache, kind: str) -> None:
    damage, says = DAMAGE[kind]
    path = cache.store(KEY, ENGINE)
    path.write_bytes(damage(path.read_bytes()))
    engine, why = cache.load(KEY)
    assert engine is None
    assert why.startswith(f"the last one cannot be read: {path}: {says}")
    ((damaged, reason),) = cache.damaged()
    assert damaged == path
    assert says in reason
    cache.store(KEY, ENGINE)
    assert cache.load(KEY) == (ENGINE, "")
    assert list(cache.damaged()) == []


# Whole or not at all


def files(cache: EngineCache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.folder.iterdir()}


def test_what_cannot_be_put_in_place_leaves_the_old_engine_and_nothing_else(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(KEY, ENGINE)
    before = files(cache)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BackendError, match=r"cannot be written \(No space left on device\)"):
        cache.store(KEY, b"the next engine")
    assert files(cache) == before


def test_a_folder_that_may_not_be_written_to_names_the_variable(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o500)
    with pytest.raises(BackendError, match="set OCCAM_CACHE_DIR to a folder that can"):
        EngineCache(folder).store(KEY, ENGINE)
    assert list(folder.iterdir()) == []


def test_a_file_in_the_folders_place_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "engines").write_bytes(b"")
    cache = EngineCache(tmp_path / "engines")
    assert cache.load(KEY) == (None, "there was none")
    with pytest.raises(BackendError, match=r"engines/voice.*: cannot be written .*OCCAM_CACHE_DIR"):
        cache.store(KEY, ENGINE)


def test_a_folder_in_the_files_place_is_no_engine(cache: EngineCache) -> None:
    cache.path(KEY).mkdir(parents=True)
    assert cache.load(KEY) == (None, "there was none")
    with pytest.raises(BackendError, match="cannot be written"):
        cache.store(KEY, ENGINE)
    assert [path.is_dir() for path in cache.folder.iterdir()] == [True]


def test_who_reads_while_others_write_gets_one_engine_or_the_other(cache: EngineCache) -> None:
    engines = [bytes([number]) * 100_000 for number in range(4)]
    cache.store(KEY, engines[0])
    threads = [
        threading.Thread(target=lambda e=engine: [cache.store(KEY, e) for _ in range(10)])
        for engine in engines
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        engine, why = cache.load(KEY)
        assert (engine in engines, why) == (True, "")
    for thread in threads:
        thread.join()
    assert len(list(cache.folder.iterdir())) == 1


# Where


@pytest.mark.parametrize(
    ("named", "xdg", "folder"),
    [
        ("/named", "/xdg", "/named"),
        ("/named", None, "/named"),
        (None, "/xdg", "/xdg/occam-sdk"),
        ("", "/xdg", "/xdg/occam-sdk"),
        (None, None, "/home/somebody/.cache/occam-sdk"),
        (None, "", "/home/somebody/.cache/occam-sdk"),
    ],
)
def test_the_folder_is_the_named_one_or_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, named: str | None, xdg: str | None, folder: str
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    for name, value in (("OCCAM_CACHE_DIR", named), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert default_folder() == EngineCache().folder == Path(folder)


def test_looking_makes_no_folder(cache: EngineCache) -> None:
    assert cache.load(KEY)[0] is None
    assert list(cache.entries()) == []
    assert not cache.folder.exists()


# OpenVINO's engines


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where engines are kept; skips without what the small networks are made with."""
    pytest.importorskip("onnx", reason="the extra 'test' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'test' is not installed")
    monkeypatch.setenv("OCCAM_CACHE_DIR", str(tmp_path / "engines"))
    return tmp_path / "engines"


def opened(
    precision: str = "int8", *, build: bool = False, threads: int | None = None, content: str = ""
) -> Session:
    from .networks import contents, small_network

    network = small_network()
    if content:
        network = replace(network, int8=contents()[0])
    return open_session(network, Runtime("openvino", "cpu", precision, threads), build=build)


def said(session: Session) -> np.ndarray:
    from .networks import pictures

    return session.run(pictures(5))["scores"]


@pytest.mark.parametrize("precision", ["int8", "fp32", "bf16"])
def test_an_engine_is_built_once_and_answers_the_same_when_read(
    folder: Path, precision: str
) -> None:
    built = opened(precision, build=True)
    (path,) = folder.iterdir()
    assert built.info.engine == f"{path}: built, there was none"
    before = path.stat().st_mtime_ns
    for read in (opened(precision), opened(precision, build=True)):
        assert read.info.engine == f"{path}: read"
        assert (read.info.layers, read.info.device) == (built.info.layers, built.info.device)
        assert read.info.notes == built.info.notes
        assert read.ports == built.ports
        np.testing.assert_array_equal(said(read), said(built))
    assert path.stat().st_mtime_ns == before


def test_nothing_is_written_unless_asked_for(folder: Path) -> None:
    assert opened().info.engine == ""
    assert not folder.exists()


def test_each_precision_has_an_engine_of_its_own(folder: Path) -> None:
    for precision in ("int8", "fp32"):
        opened(precision, build=True)
    assert len(list(folder.iterdir())) == 2
    assert opened("int8").info.layers["int8"] == 2
    assert opened("fp32").info.layers == {"fp32": 3}


def test_another_number_of_threads_is_another_engine(folder: Path) -> None:
    opened(build=True)
    other = opened(build=True, threads=1)
    assert other.info.engine.endswith("built, shapes was any, all threads, is any, 1 threads")
    assert opened(threads=1).info.engine.endswith(": read")


def test_another_model_is_another_engine(folder: Path) -> None:
    opened(build=True)
    assert opened(build=True, content="other").info.engine.endswith("built, there was none")
    assert len(list(folder.iterdir())) == 2


def test_another_version_of_the_runtime_builds_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    real = openvino.__version__
    with monkeypatch.context() as patch:
        patch.setattr(openvino, "__version__", "2024.0.0-1-old")
        opened(build=True)
    session = opened(build=True)
    assert session.info.engine.endswith(f"built, version was 2024.0.0-1-old, is {real}")
    assert opened().info.engine.endswith(": read")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_engine_is_built_again_and_says_why(folder: Path, kind: str) -> None:
    damage, says = DAMAGE[kind]
    wanted = said(opened(build=True))
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    passing = opened()
    assert passing.info.engine == ""
    np.testing.assert_array_equal(said(passing), wanted)
    again = opened(build=True)
    assert again.info.engine.startswith(f"{path}: built, the last one cannot be read: {path}: ")
    assert says in again.info.engine
    np.testing.assert_array_equal(said(again), wanted)
    assert opened().info.engine == f"{path}: read"


@pytest.mark.parametrize("content", [b"", b"of another kind of CPU", bytes(5000)], ids=len)
def test_an_engine_that_openvino_refuses_is_built_again_and_says_why(
    folder: Path, content: bytes
) -> None:
    """Virtual machines call CPUs that differ by one name, so the key may fit and the engine not."""
    wanted = said(opened(build=True))
    (path,) = folder.iterdir()
    header = json.loads(path.read_bytes().partition(b"\n")[0])
    del header["sha256"]
    EngineCache(folder).store(EngineKey(**header), content)
    np.testing.assert_array_equal(said(opened()), wanted)
    again = opened(build=True)
    assert again.info.engine.startswith(f"{path}: built, OpenVINO cannot read the last one: ")
    assert "\n" not in again.info.engine
    np.testing.assert_array_equal(said(again), wanted)
    assert opened().info.engine == f"{path}: read"


def test_a_folder_that_cannot_be_made_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_bytes(b"a file")
    with pytest.raises(BackendError, match="set OCCAM_CACHE_DIR"):
        opened(build=True)
    assert opened().info.engine == ""


def test_onnx_runtime_keeps_no_engine(folder: Path) -> None:
    from .networks import small_network

    session = open_session(small_network(), Runtime("onnxruntime", "cpu"), build=True)
    assert session.info.engine == ""
    assert not folder.exists()
