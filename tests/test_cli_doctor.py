"""`unet-med doctor` says what is there, and the extras it names are those of the package."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

import unet_med
from unet_med.cli import doctor, extras, main
from unet_med.devices import choose

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
NOT_FEATURES = {"bench", "docs"}  # for those who work on the package


def test_it_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = {line.split()[0]: line for line in lines}
    assert words["unet-med"].split()[1] == unet_med.__version__
    assert words["Python"].split()[1] == platform.python_version()
    for name in ("torch", "monai", "numpy", "tifffile"):
        assert words[name].split()[1] == version(name)
    assert words["device"].split()[1].rstrip(":") == choose().device.type
    assert float(words["memory"].split()[1]) > 0
    assert set(extras.EXTRAS) <= set(words)


def test_what_is_missing_comes_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = {"zarr", "onnx", "onnxscript", "onnxruntime"}
    monkeypatch.setattr(extras, "_is_there", lambda name: name in there)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "OME-Zarr, volumes larger than memory: yes (zarr)" in said
    assert "predict --scheduler: no; pip install 'unet-med[cluster]'" in said
    assert "pip install 'unet-med[export]'" in said
    assert extras.missing("export") == ["bioimageio.spec"]


def test_a_container_with_little_shared_memory_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Docker gives 64 MB, in which processes that load tiles end with a bus error."""
    shared = SimpleNamespace(total=2**26, free=2**26)
    monkeypatch.setattr(doctor, "SHARED", str(tmp_path))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: shared)
    monkeypatch.setattr("unet_med.devices.loader_workers", lambda device: 8)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"shared    67 MB in {tmp_path} are little for the 8 processes" in said
    assert "--ipc=host or --shm-size=8g" in said
    assert not [*doctor._too_little_shared(0)]  # on a CPU the training makes its tiles itself
    shared.total = 2**30
    assert not [*doctor._too_little_shared(8)]


def test_a_module_of_a_package_that_is_not_there_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(extras.EXTRAS, "x", (("no_such_package.part", "json"), "nothing"))
    assert extras.missing("x") == ["no_such_package.part"]


def test_the_extras_are_those_of_the_package() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"]
    assert set(extras.EXTRAS) == set(declared) - NOT_FEATURES
    for extra, (modules, _) in extras.EXTRAS.items():
        named = " ".join(declared[extra]).replace("unet-med[zarr]", "zarr")
        for module in modules:
            name = re.escape(module).replace("_", "[_-]")  # a module has no dash, its package may
            assert re.search(rf"\b{name}\b", named), (extra, module)
