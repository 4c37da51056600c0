"""What MONAI Deploy's App SDK 4.0 does with a bundle, as rules: it drops what loads and saves.

`tests/clients/test_deploy.py` runs the SDK itself, in an environment of its own (`make clients`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from image_files import TURNED, write_ct
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform

from unet_med import Segmenter, bundle
from unet_med.data import load_image
from unet_med.networks import unet


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct(tmp_path_factory.mktemp("ct") / "ct.nii.gz", (20, 24, 8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, volume: Path) -> Path:
    """A bundle of a 3-D network that turns and resamples, and finds objects."""
    folder = bundle.copy_bundle(tmp_path_factory.mktemp("deploy") / "bundle")
    small = {"preset": "modern", "features": [2, 4], "spatial_dims": 3, "label_kind": "instances"}
    pixels = {"orientation": "RAS", "element_size": [1.0, 1.0, 2.0], "element_unit": "mm"}
    bundle.write_settings(folder, [], {**small, **pixels, "device": "$torch.device('cpu')"})
    torch.manual_seed(0)
    network = unet("modern", features=(2, 4), spatial_dims=3)
    torch.save(network.state_dict(), folder / "models/model.pt")
    foreground = Segmenter(folder)(volume).probabilities[1]
    several = {"threshold": float(np.quantile(foreground, 0.8)), "grow": 0}
    bundle.write_settings(folder, [], several)
    return folder


def without(compose: Compose, *words: str) -> Compose:
    """`filter_compose` of the SDK: whatever has such a word in its class name is dropped."""
    kept = [t for t in compose.transforms if not any(word in type(t).__name__ for word in words)]
    return Compose(kept)


def operator(folder: Path, image: np.ndarray, meta: dict[str, Any]) -> dict[str, Any]:
    """`MonaiBundleInferenceOperator.compute` of the SDK, from a folder."""
    parser = ConfigParser()
    parser.read_meta(str(folder / "configs/metadata.json"))
    parser.read_config(str(folder / "configs/inference.json"))
    parser.parse()
    before, after = (
        without(parser.get_parsed_content(id), "LoadImage", "SaveImage")
        for id in ("preprocessing", "postprocessing")
    )
    for transform in (*before.transforms, *after.transforms):  # else it is called with one array
        assert isinstance(transform, MapTransform), transform
    network = parser.get_parsed_content("network").eval()
    network.load_state_dict(torch.load(folder / "models/model.pt", weights_only=True))
    [name] = parser["_meta_"]["network_data_format"]["inputs"]
    [output] = parser["_meta_"]["network_data_format"]["outputs"]
    value = MetaTensor.ensure_torch_and_prune_meta(image, {**meta})
    with torch.no_grad():
        item = before({name: value})
        inferer = parser.get_parsed_content("inferer")
        predicted = inferer(inputs=item[name][None], network=network)
        return dict(after({output: predicted[0], **item}))


@pytest.mark.parametrize("outputs", [["mask"], ["mask", "instances"]])
def test_the_sdk_gives_what_predict_gives(folder: Path, volume: Path, outputs: list[str]) -> None:
    bundle.write_settings(folder, [], {"outputs": outputs})
    meta = {"affine": TURNED, "original_affine": TURNED, "original_channel_dim": "no_channel"}
    meta |= {"spatial_shape": np.asarray((20, 24, 8)), "spatial_unit": "mm"}
    pixels = np.asarray(nibabel.load(volume).dataobj).astype(np.float32)  # (X, Y, Z)
    found = operator(folder, pixels, meta)
    expected = Segmenter(folder)(volume)
    assert expected.mask.any()
    np.testing.assert_array_equal(np.asarray(found["pred"][0]), expected.mask)
    if "instances" in outputs:
        assert expected.instances.max() > 1
        np.testing.assert_array_equal(np.asarray(found["instances"][0]), expected.instances)


def test_all_that_touches_files_is_known_by_its_name(folder: Path, volume: Path) -> None:
    segmenter = Segmenter(folder)
    load, channel_first, *_ = segmenter.preprocessing.transforms
    item = channel_first(load({"image": str(volume)}))
    assert torch.equal(item["image"], load_image(volume))
    assert "LoadImage" in type(load).__name__
    assert "SaveImage" in type(segmenter.postprocessing(["mask"], folder)[-1]).__name__
