"""Which image a session suggests next: a network whose confidence is the brightness of an image."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from unet_med.data.checksum import sha256
from unet_med.data.grids import Grid, axes_of
from unet_med.napari_widget import Session, next_image
from unet_med.napari_widget.first_axis import PLANES
from unet_med.napari_widget.next_image import NextImage, Suggestion
from unet_med.napari_widget.segmenting import ORIENTATION
from unet_med.segmentation.next_image import Candidate, choose_next

FAULTY = 13


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """Its file of weights, and what it has segmented."""
    weights = tmp_path / "weights.pt"
    weights.write_text("first")
    found = SimpleNamespace(weights=weights, spatial_dims=2, in_channels=1, unit="um")
    found.orientation, found.require_confidence = None, lambda: None
    found.choice, found.looked = {}, []

    def look(_: Any, name: str, image: Any) -> Candidate:
        bright = round(float(image.mean()))
        if bright == FAULTY:
            raise ValueError("the pixel size is unknown")
        found.looked.append(bright)
        return Candidate(name, bright / 100 or None, np.array([bright // 20]))

    monkeypatch.setattr(next_image, "Segmenter", lambda _: found)
    monkeypatch.setattr(next_image, "look", look)
    return found


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session.open(tmp_path / "session")


def image(bright: int, *shape: int) -> np.ndarray:
    """Grey values `(Y, X)`, or of the shape, all different from those of another brightness."""
    return np.full(shape or (5, 7), bright, np.uint8)


def layer(name: str, data: np.ndarray, **more: Any) -> SimpleNamespace:
    fields: dict[str, Any] = {"rgb": False, "multiscale": False, "units": (), **more}
    return SimpleNamespace(name=name, data=data, **fields)


def finish(steps: Generator[str, None, Suggestion]) -> Suggestion:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Suggestion = end.value
            return found


def suggest(own: NextImage, opened: list[Any], folder: Any = None, planes: bool = False) -> str:
    stack: Any = PLANES if planes else "as it says"
    steps = own.steps([[each] for each in opened], folder, stack=stack, rule="confidence")
    return finish(steps).said


def test_at_random_as_the_command_does_unless_told(
    session: Session, network: SimpleNamespace
) -> None:
    """The first is the command's; all come once before one comes again, in an order of chance."""
    layers = [[layer(str(k), image(k))] for k in (30, 10, 0, 90, 20, 60)]
    own = NextImage(session)
    said = [finish(own.steps(layers, None)).said for _ in range(10)]
    order = [sentence.split()[1] for sentence in said]
    candidates = [Candidate(str(k), 0.5, np.zeros(1)) for k in (30, 10, 90, 20, 60)]
    assert order[0] == choose_next(candidates, 3)[0].candidate.name
    assert sorted(order[:5]) == sorted(order[5:]) == ["10", "20", "30", "60", "90"]
    assert order[:5] != ["10", "20", "30", "60", "90"]  # which confidence would have
    assert "drawn at random from 5 in which something is found, confidence" in said[0]
    assert "; nothing is found in 1 other(s)" in said[0]


def test_what_cannot_be_read_is_passed_over(
    session: Session, network: SimpleNamespace, tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "a.tif").write_bytes(b"no")
    session.add("c", image(10).T[None], image(1).T)
    session.pairs()["c"][0].write_bytes(b"no")
    with pytest.raises(ValueError, match=r"\(2 cannot be looked at, such as c: .*c\.tif.*\)"):
        suggest(NextImage(session), [], folder)
    session.pairs()["c"][0].unlink()
    tifffile.imwrite(folder / "b.tif", image(20))
    said = suggest(NextImage(session), [], folder)
    assert said.startswith("annotate b next")
    assert "; 1 cannot be looked at, such as a: " in said


def test_one_image_that_the_bundle_cannot_segment_ends_no_search(
    session: Session, network: SimpleNamespace
) -> None:
    own, layers = NextImage(session), [layer("f", image(FAULTY)), layer("b", image(20))]
    for _ in range(2):
        said = suggest(own, layers)
        assert said.startswith("annotate b next")
        assert said.endswith("; 1 cannot be looked at, such as f: the pixel size is unknown")

    def earlier() -> None:
        raise ValueError("made by an earlier version")

    network.require_confidence = earlier
    with pytest.raises(ValueError, match="made by an earlier version"):
        suggest(own, layers)


def test_each_kind_in_turn_then_the_rest_and_nothing_twice(
    session: Session, network: SimpleNamespace
) -> None:
    own = NextImage(session)
    layers = [layer(str(k), image(k)) for k in (30, 10, 90, 20, 0, 40, 60, 80)]
    said = suggest(own, layers)
    assert said == (
        "annotate 10 next: confidence 0.100, the only image of its kind; "
        "nothing is found in 1 other(s)"
    )
    session.add("10", image(10).T[None], image(1).T)  # annotated, and still of its kind
    second = suggest(own, layers)
    assert second.startswith("annotate 20 next: confidence 0.200, the least confident of 2 images")
    rest = [suggest(own, layers).split()[1] for _ in range(5)]
    assert rest == ["40", "60", "80", "30", "90"]
    assert suggest(own, layers).split()[1] == "20"  # all were suggested: from the start
    assert sorted(network.looked) == [0, 10, 20, 30, 40, 60, 80, 90]
    network.weights.write_text("second")
    assert suggest(own, layers).split()[1] == "20"
    assert len(network.looked) == 8 + 7


def test_what_is_annotated_or_learned_is_passed_over(
    session: Session, network: SimpleNamespace, tmp_path: Path
) -> None:
    own, folder = NextImage(session), tmp_path / "more"
    folder.mkdir()
    for bright in (10, 20, 30, 40):
        tifffile.imwrite(folder / f"{bright}.tif", image(bright))
    session.add("mine", image(10).T[None].astype(np.float32), image(1).T)  # by its pixels
    learned = {"image": {"sha256": sha256(str(folder / "20.tif"))}}
    (session.bundle / "configs").mkdir(parents=True)
    plan = {"data": {"cases": [learned]}}
    (session.bundle / "configs/plan.json").write_text(json.dumps(plan))
    opened = layer("open", image(30))  # the same pixels as 30.tif: it is open already
    found = finish(own.steps([[opened]], folder, rule="confidence"))
    assert (found.place.layers, found.new) == ((opened,), ())
    found = finish(own.steps([[opened]], folder, rule="confidence"))
    ((pixels, meta, kind),) = found.new
    np.testing.assert_array_equal(pixels, image(40))
    assert (meta["name"], kind, found.place.layers) == ("40", "image", ())
    assert network.looked == [30, 40]
    (folder / "30.tif").unlink()
    (folder / "40.tif").unlink()
    shapes = layer("times", image(5, 2, 2, 5, 7)), layer("rgb", image(5, 5, 7, 3), rgb=True)
    match = r"no image is left to suggest \(2 annotated or learned from .* 2 not of the network's"
    with pytest.raises(ValueError, match=match):
        suggest(own, list(shapes), folder)


def test_planes_of_a_stack_are_images_where_the_session_says_so(
    session: Session, network: SimpleNamespace
) -> None:
    stack = np.stack([image(20), image(10), image(60)])
    opened = layer("s", stack, scale=(2.0, 0.5, 0.5), units=("um",) * 3)
    session.add("s-z001", image(10).T[None], image(1).T)
    found = finish(NextImage(session).steps([[opened]], None, stack=PLANES, rule="confidence"))
    assert found.place.plane == 0
    assert found.said.startswith("annotate s, plane 0, next: confidence 0.200")
    assert finish(NextImage(session).steps([[opened]], None)).place.plane is None
    network.spatial_dims = 3
    assert finish(NextImage(session).steps([[opened]], None, stack=PLANES)).place.plane is None
    session.add("whole", stack.T[None], stack.T)
    network.spatial_dims = 2
    with pytest.raises(ValueError, match=r"\(3 annotated or learned from already\)"):
        suggest(NextImage(session), [opened], planes=True)


def test_a_plane_keeps_its_pixel_size(session: Session, network: SimpleNamespace) -> None:
    opened = layer("s", image(5, 2, 5, 7), scale=(2.0, 0.5, 0.25), units=("um",) * 3)
    whole = next_image._of_layers([opened], network)
    assert whole is not None
    (_, plane), _ = next_image._parts(whole, planes=True)
    assert plane.shape == (1, 7, 5)
    np.testing.assert_allclose(np.diag(plane.affine)[:2], (0.25, 0.5))
    assert plane.meta["spacing_source"] == "given"


def test_a_plane_keeps_its_pixel_size_where_planes_are_no_known_length_apart(
    session: Session, network: SimpleNamespace
) -> None:
    opened = layer("t", image(5, 2, 5, 7), scale=(2.0, 0.5, 0.25), units=("second", "um", "um"))
    whole = next_image._of_layers([opened], network)
    assert whole is not None
    assert whole.meta["planes"] == "apart"  # frames, as `predict` takes them in a file
    (_, plane), _ = next_image._parts(whole, planes=True)
    np.testing.assert_allclose(np.diag(plane.affine)[:2], (0.25, 0.5))
    network.spatial_dims = 3
    with pytest.raises(ValueError, match="is one of times, which make no volume"):
        next_image._of_layers([opened], network)


def test_what_may_be_channels_is_passed_over_with_a_reason(
    session: Session, network: SimpleNamespace
) -> None:
    opened = [layer("c", np.stack([image(30), image(40)])), layer("b", image(20))]
    said = suggest(NextImage(session), opened)
    assert said.startswith("annotate b next")
    assert "1 cannot be looked at, such as c: c does not say whether its 2 are planes" in said
    said = suggest(NextImage(session), opened, planes=True)
    assert "cannot be looked at" not in said


def test_planes_of_an_oriented_stack_are_those_that_the_network_sees(
    network: SimpleNamespace,
) -> None:
    place: Any = {"scale": (3.0, 0.5, 0.25), "units": ("um",) * 3}
    for word, count in (("LPS", 2), ("LSP", 1)):
        opened = layer("s", image(5, 2, 5, 7), metadata={ORIENTATION: word}, **place)
        whole = next_image._of_layers([opened], network)
        assert whole is not None
        parts = [part for _, part in next_image._parts(whole, True, "RAS")]
        assert len(parts) == count
        for part in parts:
            assert axes_of(np.asarray(part.affine)) == word
            assert Grid.of_image(part, "part").oriented
