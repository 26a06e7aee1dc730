"""What is written runs: the examples in docstrings and in the README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import occam_sdk
from occam_sdk import BackendError

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MODULES = ["occam_sdk"] + [
    module.name
    for module in pkgutil.walk_packages(occam_sdk.__path__, "occam_sdk.")
    if module.name not in ("occam_sdk.__main__", "occam_sdk._core")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except BackendError as error:
        pytest.skip(str(error))
    result = doctest.testmod(module, raise_on_error=False)
    assert result.failed == 0


def test_every_public_name_is_there_and_documented() -> None:
    for name in occam_sdk.__all__:
        assert getattr(occam_sdk, name).__doc__, name
    assert set(occam_sdk.__all__) <= set(dir(occam_sdk))
    with pytest.raises(AttributeError, match="nothing"):
        occam_sdk.nothing  # noqa: B018


def test_the_readme_has_two_commands_that_set_up_and_no_more() -> None:
    commands = [
        line for line in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "install" in line
    ]
    assert len(commands) == 2
    assert commands[0].rstrip().endswith("occam demo")
    assert "pytest" in commands[1]


def test_the_readmes_first_python_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    (tmp_path / "clip.mp4").write_bytes(occam_sdk.demo_clip().read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("Happy ")
