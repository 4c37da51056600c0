"""cellpose 3 trained from scratch (AdamW, its rate of 0.005), for some minutes.

Its own training function with its own augmentation, images brought to objects of 30 px as always;
no weights are downloaded. Two short trainings tell how long an epoch takes, and the minutes how
many follow. Volumes are learned from planes along all three axes, and segmented in 3-D by the
flows of these, as its manual says.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from cellpose import dynamics, models
from cellpose.train import train_seg
from common import Array, Job, cores, read, run

BATCH = 8  # images, as by default
MOST = 64  # images an epoch
APART = 3  # planes of a volume that are learned: neighbours are alike
MARGIN = 0.95  # of the time that is left: epochs do not all take the same


def train(job: Job) -> None:
    """Train; the weights lie in `models/model` of the job's folder."""
    np.random.seed(job.seed)
    torch.manual_seed(job.seed)
    torch.set_num_threads(cores())
    images, labels = job.arrays()
    if job.dims == 3:
        images, labels = planes(images), planes(labels)
    model = models.CellposeModel(gpu=False, pretrained_model=None)
    flows = dynamics.labels_to_flows(labels, device=torch.device("cpu"))
    an_epoch = min(len(images), MOST)

    def epochs(count: int, size: int) -> float:
        """Train so many epochs of so many images; seconds. The first has the rate 0."""
        begun = time.time()
        train_seg(
            model.net,
            train_data=images,
            train_labels=flows,
            channels=[0, 0],
            batch_size=BATCH,
            n_epochs=count,
            nimg_per_epoch=size,
            min_train_masks=1,
            save_path=job.folder,
            model_name="model",
        )
        return time.time() - begun

    epochs(1, BATCH)  # compiles
    once = epochs(1, BATCH)
    step = max((epochs(1, 2 * BATCH) - once), 0.05 * once)
    steps = -(-an_epoch // BATCH)
    left = MARGIN * job.seconds_left - (once - step)  # less what a call takes besides
    count = max(2, int(left / (step * steps)))
    epochs(count, an_epoch)
    job.say("cellpose", steps=count * steps, epochs=count)


def predict(job: Job) -> None:
    """Instances of each image, at the size that the training's objects have."""
    torch.set_num_threads(cores())
    weights = job.folder / "models" / "model"
    model = models.CellposeModel(gpu=False, pretrained_model=str(weights))
    options: dict[str, Any] = {"channels": [0, 0], "diameter": model.diam_labels}
    if job.dims == 3:
        options |= {"do_3D": True, "z_axis": 0}
    job.write({file: model.eval(read(file), **options)[0] for file in job.images})


def planes(volumes: list[Array]) -> list[Array]:
    """Planes of volumes along each axis."""
    return [
        np.ascontiguousarray(plane)
        for volume in volumes
        for axis in range(3)
        for plane in np.moveaxis(volume, axis, 0)[::APART]
    ]


if __name__ == "__main__":
    run(train=train, predict=predict)
