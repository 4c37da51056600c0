"""Labels that are classes: how many, and values that cannot be one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from unet_med.cli import main
from unet_med.data import count_classes


def labels(*values: tuple[int, ...]) -> list[np.ndarray]:
    return [np.resize(np.array(found, np.uint8), (24, 24)) for found in values]


@pytest.mark.parametrize(
    ("values", "given", "count"),
    [
        ([(0, 1, 2), (0, 1)], None, 3),
        ([(0, 1, 255), (0, 255)], None, 2),
        ([(1, 2), (2, 3)], None, 4),  # no background
        ([(0,)], None, 2),
        ([(0, 1, 2), (0, 1)], 5, 5),
        ([(0, 1, 2, 7)], 8, 8),
    ],
)
def test_number_of_classes(values: list[tuple[int, ...]], given: int | None, count: int) -> None:
    names = [f"{k}.tif" for k in range(len(values))]
    assert count_classes(labels(*values), names, given) == count


@pytest.mark.parametrize(
    ("values", "given", "match"),
    [
        ([(0, 1, 2), (0, 1, 2, 7)], None, r"1.tif holds the value 7, and no label holds 3 to 6: .*"
         r"\(--classes 8\)"),
        ([(0, 2), (0, 2)], None, r"0.tif holds the value 2, and no label holds 1: .*--classes 3"),
        ([(0, 1, 2), (0, 5)], 3, r"1.tif holds the value 5: classes are 0 to 2, .*--classes"),
        ([(0,), (0, 255)], None, r"1.tif holds no class besides 0: .*use --label-kind mask"),
        ([(0, 255)], 2, "use --label-kind mask"),
    ],
)  # fmt: skip
def test_values_that_are_no_class(
    values: list[tuple[int, ...]], given: int | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        count_classes(labels(*values), [f"{k}.tif" for k in range(len(values))], given)


@pytest.mark.parametrize(
    ("values", "words", "match"),
    [
        ([(0, 1, 2), (0, 1, 2, 7)], [], "b.tif holds the value 7, and no label holds 3 to 6"),
        ([(0, 255)] * 2, ["--label-kind", "classes"], "use --label-kind mask"),
        ([(0, 1)] * 2, ["--label-kind", "mask", "--classes", "3"], "these are mask"),
    ],
)
def test_train_refuses_them_before_anything_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: list[tuple[int, ...]],
    words: list[str],
    match: str,
) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, label in zip("ab", labels(*values), strict=True):
        tifffile.imwrite(tmp_path / f"images/{name}.tif", label)
        tifffile.imwrite(tmp_path / f"labels/{name}.tif", label)
    given = ["--images", f"{tmp_path}/images", "--labels", f"{tmp_path}/labels"]
    assert main(["train", *given, "--output", f"{tmp_path}/out", *words]) == 2
    assert match in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
