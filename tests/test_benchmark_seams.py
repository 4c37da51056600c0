"""The audit of seams: what counts as changed, and that our tiles change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_segmenter import blobs, with_foreground
from test_volumes import make_bundle

from benchmarks import seams

LABELS = arrays(np.int64, (5, 6), elements=st.integers(0, 3))


@given(whole=LABELS, other=LABELS)
def test_overlaps_are_those_of_every_pair(whole: np.ndarray, other: np.ndarray) -> None:
    right = []
    for a in sorted(set(whole[whole > 0])):
        values = [0.0]
        for b in set(other[other > 0]):
            both = ((whole == a) & (other == b)).sum()
            values.append(both / ((whole == a) | (other == b)).sum())
        right.append(max(values))
    np.testing.assert_array_equal(seams.overlaps(whole, other), right)


def test_objects_change_by_a_pixel_and_are_lost_by_half() -> None:
    whole = np.array([[1, 1, 1, 0, 2, 2, 0, 3, 3, 3, 3]])
    other = np.array([[7, 7, 7, 0, 4, 0, 0, 5, 5, 5, 0]])  # equal, a half, all but one
    found = seams.count(whole, other, 0.1, "objects")
    assert found == seams.Count(all=3, changed=2, lost=1, logits=0.1)


def test_pixels_are_counted_of_all_that_either_calls_foreground() -> None:
    found = seams.count(np.array([0, 1, 2, 2]), np.array([1, 1, 1, 0]), 0.0, "pixels")
    assert found == seams.Count(all=4, changed=3)


@pytest.mark.parametrize("shape", [(100, 30), (40, 50, 37)])
def test_boxes_cover_each_pixel_once(shape: tuple[int, ...]) -> None:
    seen = np.zeros(shape, int)
    for box in seams.boxes(shape, 16):
        seen[tuple(slice(*side) for side in box)] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("kind", ["instances", "classes"])
def test_ours_change_nothing_and_blending_does(kind: str, tmp_path: Path) -> None:
    choices = {"preset": "modern", "statistics": "image", "out_channels": 2, "label_kind": kind}
    folder = make_bundle(tmp_path / "bundle", tta="rotations", **choices)
    files = []
    for seed in (0, 1):
        files.append(str(tmp_path / f"{seed}.tif"))
        tifffile.imwrite(files[-1], blobs(np.random.default_rng(seed), (83, 70)))
    with_foreground(folder, files[0])
    rows = {row["way"]: row for row in seams.Audit(folder, side=32).rows(files)}
    assert list(rows) == seams.WAYS
    for way in ("ours", "ours, other offsets"):
        assert (rows[way]["changed"], rows[way]["lost"]) == (0, 0)
        assert rows[way]["logits"] < 1e-4
    assert all(rows[way]["changed"] > 0 for way in seams.MONAI)
    assert all(row["all"] >= 10 for row in rows.values())


def test_rows_of_a_named_audit_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams, "ROWS", tmp_path / "rows.jsonl")
    monkeypatch.setattr(seams, "PAGE", tmp_path / "page.md")
    seams.PAGE.write_text("<!-- seams: begin --><!-- seams: end -->", encoding="utf-8")
    folder = make_bundle(tmp_path / "bundle", label_kind="classes")  # a valid network
    file = tmp_path / "image.tif"
    tifffile.imwrite(file, blobs(np.random.default_rng(0), (50, 40)))
    for _ in range(2):
        seams.main([str(folder), str(file), "--name", "blobs", "--tile", "48"])
    rows = [json.loads(line) for line in seams.ROWS.read_text(encoding="utf-8").splitlines()]
    assert [row["way"] for row in rows] == ["ours", "ours, other offsets"]
    page = seams.PAGE.read_text(encoding="utf-8")
    assert f"| blobs | ours | 0 of {rows[0]['all']} pixels, 0.00% |" in page
