"""What the peers' scripts do themselves: objects as classes and back, jobs, result files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile

from benchmarks.quality_methods import SCRIPTS
from unet_med.data import load_image, load_label


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the scripts' folder, as their own interpreters do."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def job_of(common: ModuleType, folder: Path, **more: Any) -> Any:
    content = {"dims": 2, "classes": 2, "result": "instances", "seed": 0, "end": 0.0}
    file = folder / "predict_job.json"
    file.write_text(json.dumps({**content, "training": [], **more}), encoding="utf-8")
    return common.Job(str(file))


@pytest.mark.parametrize("planes", [None, 7])
def test_touching_objects_come_apart_again(script: Any, planes: int | None) -> None:
    nnunet = script("run_nnunet")
    label = np.zeros((12, 20), np.uint16)
    label[1:11, 1:9], label[1:11, 9:19] = 5, 2  # they touch
    if planes:
        label = np.stack([label * 0, *[label] * planes, label * 0])
    classes = nnunet.interior_and_border(label)
    assert set(np.unique(classes)) == {0, 1, 2}
    assert ((classes > 0) == (label > 0)).all()
    middle = classes if planes is None else classes[4]
    touching = middle[5, 7:11]  # two px of a border each in a plane, one in a volume
    assert (touching == (2 if planes is None else [1, 2, 2, 1])).all()
    found = nnunet.instances(classes)
    assert len(np.unique(found)) == 3
    for number in (2, 5):
        assert len(np.unique(found[label == number])) == 1


def test_an_object_without_an_interior_is_one_too(script: Any) -> None:
    nnunet = script("run_nnunet")
    label = np.zeros((9, 12), np.uint16)
    label[1:4, 1:4], label[2:8, 5:11] = 1, 2  # the first is too narrow
    found = nnunet.instances(nnunet.interior_and_border(label))
    assert len(np.unique(found)) == 3
    assert ((found > 0) == (label > 0)).all()


def test_results_lie_as_their_images_do(script: Any, tmp_path: Path) -> None:
    common = script("common")
    label = np.arange(6).reshape(2, 3)  # (Y, X)
    job_of(common, tmp_path).write({"a/one.png": label})
    (file,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    np.testing.assert_array_equal(np.asarray(load_label(file)), label.T)
    scores = np.stack([1 - label / 9, label / 9])  # (K, Y, X)
    job_of(common, tmp_path, result="probabilities").write({"b/two.tif": scores})
    (file,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    found = np.asarray(load_image(file))
    np.testing.assert_allclose(found[1], label.T / 9, rtol=1e-6)  # (K, X, Y)


def test_a_volume_keeps_its_planes_first(script: Any, tmp_path: Path) -> None:
    common = script("common")
    volume = np.arange(24).reshape(2, 3, 4)
    job_of(common, tmp_path, dims=3).write({"v.tif": volume})
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "results" / "v.tif"), volume)
    np.testing.assert_array_equal(common.read(str(tmp_path / "results" / "v.tif")), volume)


def test_scripts_know_nothing_of_us() -> None:
    found = [*SCRIPTS.glob("*.py")]
    assert len(found) == 4
    for file in found:
        lines = file.read_text(encoding="utf-8").splitlines()
        imports = [line for line in lines if line.lstrip().startswith(("import ", "from "))]
        assert not [line for line in imports if "unet_med" in line or "benchmarks" in line]
        assert file.name == "common.py" or file.with_name(f"{file.stem[4:]}.txt").is_file()
