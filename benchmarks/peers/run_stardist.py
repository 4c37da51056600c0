"""StarDist as its tutorial trains it (examples/2D and 3D of its repository), for some minutes.

Images between their percentiles 1 and 99.8; 15 % of them, at least one, are held out. The
default U-Net with 32 rays and grid 2 in planes, 96 rays over the measured anisotropy in volumes;
flips, turns and changes of intensity; the weights of the lowest validation loss; thresholds
optimised on the images held out. A callback stops the training in time.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import tensorflow as tf
from common import Array, Job, read, run
from csbdeep.utils import normalize
from stardist import Rays_GoldenSpiral, calculate_extents, fill_label_holes
from stardist.matching import matching_dataset
from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

HELD_OUT = 0.15
RESERVED = 0.15  # share of the minutes for the last validation and the thresholds
STEPS = 100  # an epoch, as by default
OVERLAPS = (0.5, 0.75)
LARGEST = {2: (256, 256), 3: (48, 96, 96)}  # training patch, px


class StopInTime(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Ends the training between two steps, and counts these."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end, self.steps = end, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keras calls it after each step."""
        self.steps += 1
        if time.time() >= self.end:
            self.model.stop_training = True


def train(job: Job) -> None:
    """Train and optimise the thresholds; the model lies in the job's folder."""
    minutes = job.seconds_left
    np.random.seed(job.seed)
    tf.random.set_seed(job.seed)
    images, labels = job.arrays()
    images = [normalized(image, job.dims) for image in images]
    labels = [fill_label_holes(label) for label in labels]
    order = np.random.default_rng(job.seed).permutation(len(images))
    count = max(1, round(HELD_OUT * len(images)))
    held, kept = order[:count], order[count:]
    model = network(job, images, labels)
    model.prepare_for_training()
    clock = StopInTime(job.end - RESERVED * minutes)
    model.callbacks.append(clock)
    validation = [images[k] for k in held], [labels[k] for k in held]
    model.train(
        [images[k] for k in kept],
        [labels[k] for k in kept],
        validation_data=validation,
        augmenter=augment,
        steps_per_epoch=STEPS,
    )
    if np.isfinite(model.keras_model.get_weights()[0]).all():
        model.optimize_thresholds(*validation)
    job.say("stardist", steps=clock.steps, thresholds=dict(model.thresholds._asdict()))


def predict(job: Job) -> None:
    """Instances of each image."""
    kind = StarDist2D if job.dims == 2 else StarDist3D
    model = kind(None, name="model", basedir=str(job.folder))
    found = {}
    for file in job.images:
        found[file], _ = model.predict_instances(normalized(read(file), job.dims))
    job.write(found)


def match(job: Job) -> None:
    """Average precision of anybody's results by StarDist's `matching`: an oracle for our own."""
    with np.load(job.folder / "objects.npz") as arrays:
        found, truths = ([arrays[f"{side}{k}"] for k in range(len(arrays) // 2)] for side in "ft")
    scores = matching_dataset(truths, found, thresh=OVERLAPS, show_progress=False)
    content = {f"AP{100 * t:.0f}": s.accuracy for t, s in zip(OVERLAPS, scores, strict=True)}
    (job.folder / "matching.json").write_text(json.dumps(content), encoding="utf-8")


def network(job: Job, images: list[Array], labels: list[Array]) -> Any:
    """The default configuration, its patch as large as the smallest image allows."""
    sides = np.min([label.shape for label in labels], axis=0)
    place = {"name": "model", "basedir": str(job.folder)}
    channels = images[0].shape[-1] if images[0].ndim > job.dims else 1
    if job.dims == 2:
        patch = legal(sides, LARGEST[2], 16)
        config = Config2D(
            n_rays=32,
            grid=(2, 2),
            n_channel_in=channels,
            train_patch_size=patch,
            train_tensorboard=False,
        )
        return StarDist2D(config, **place)
    extents = calculate_extents(labels)
    anisotropy = tuple(float(value) for value in np.max(extents) / extents)
    config = Config3D(
        rays=Rays_GoldenSpiral(96, anisotropy=anisotropy),
        grid=tuple(1 if value > 1.5 else 2 for value in anisotropy),
        anisotropy=anisotropy,
        n_channel_in=channels,
        train_tensorboard=False,
        train_patch_size=legal(sides, LARGEST[3], 8),
        train_batch_size=2,
    )
    return StarDist3D(config, **place)


def legal(sides: Array, largest: tuple[int, ...], step: int) -> tuple[int, ...]:
    """The largest sides of a patch that fit into the images and the network."""
    return tuple(int(min(*pair)) // step * step for pair in zip(sides, largest, strict=True))


def normalized(image: Array, dims: int) -> Array:
    """Each channel between its percentiles."""
    found: Array = normalize(image, 1, 99.8, axis=tuple(range(dims)))
    return found


def augment(image: Array, label: Array) -> tuple[Array, Array]:
    """Flips and turns in axes of equal length, another intensity, noise: the tutorial's."""
    axes = range(label.ndim)
    turned = np.random.permutation([a for a in axes if label.shape[a] == label.shape[-1]])
    order = list(axes)
    for place, axis in zip(sorted(turned), turned, strict=True):
        order[place] = int(axis)
    image = image.transpose(*order, *range(label.ndim, image.ndim))
    label = label.transpose(order)
    for axis in axes:
        if np.random.rand() > 0.5:
            image, label = np.flip(image, axis), np.flip(label, axis)
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    sigma = 0.02 * np.random.uniform(0, 1)
    return image + sigma * np.random.normal(0, 1, image.shape), label


if __name__ == "__main__":
    run(train=train, predict=predict, match=match)
