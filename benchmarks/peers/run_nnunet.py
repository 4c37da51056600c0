"""nnU-Net by its own plan, augmentation and schedule, for some minutes.

Planning and preprocessing as `nnUNetv2_plan_and_preprocess` does them, `2d` for planes and
`3d_fullres` for volumes; all training images (fold `all`); the default trainer, of which the
number of iterations alone is another: a few are timed, and as many follow as the minutes allow,
the learning rate falling over them. Prediction with Gaussian windows and mirroring, as by
default. Objects are learned as interior and border, and taken apart again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import Array, Job, cores, read, run
from skimage.io import imsave
from skimage.measure import label as components
from skimage.morphology import dilation, erosion
from skimage.segmentation import watershed

DATASET = "Dataset001_peer"
TIMED = 5  # iterations
TIMED_SHARE = 0.1  # of the minutes, which they may take
MARGIN = 0.95  # of the time that is left: iterations do not all take the same
AN_EPOCH = 25  # iterations, where there are many: the learning rate falls from epoch to epoch
INTERIOR, BORDER = 1, 2
THICKNESS = {2: 2, 3: 1}  # px of the border, by axes


def train(job: Job) -> None:
    """Plan, preprocess and train; all lies in the job's folder."""
    place = Place(job)
    for number, pair in enumerate(job.training):
        save_image(pair["image"], place.raw / "imagesTr" / f"c{number:04d}_0000{place.ending}")
        save_label(job, pair["label"], place.raw / "labelsTr" / f"c{number:04d}{place.ending}")
    describe(job, place)

    from nnunetv2.experiment_planning import plan_and_preprocess_api as planning

    planning.extract_fingerprints([1], num_processes=1)
    planning.plan_experiments([1])
    planning.preprocess([1], configurations=(place.configuration,), num_processes=(1,))
    plans = json.loads((place.prepared / "nnUNetPlans.json").read_text(encoding="utf-8"))
    trainer = fitted_trainer(job, plans, place)
    trainer.run_training()
    plan = plans["configurations"][place.configuration]
    facts = {"patch": plan["patch_size"], "batch": plan["batch_size"]}
    job.say("nnunetv2", steps=trainer.steps, **facts)


def predict(job: Job) -> None:
    """A result for each image."""
    place = Place(job)
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    names = [Path(file).name.partition(".")[0] for file in job.images]
    inputs = [place.root / "input" / f"{name}_0000{place.ending}" for name in names]
    outputs = [place.root / "output" / name for name in names]
    outputs[0].parent.mkdir(exist_ok=True)
    for file, target in zip(job.images, inputs, strict=True):
        save_image(file, target)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    trained = place.results / f"nnUNetTrainer__nnUNetPlans__{place.configuration}"
    predictor.initialize_from_trained_model_folder(str(trained), ("all",), "checkpoint_final.pth")
    predictor.predict_from_files_sequential(
        [[str(file)] for file in inputs],
        [str(output) for output in outputs],
        save_probabilities=job.result == "probabilities",
    )
    if job.result == "mask":
        job.list_results([f"{output}{place.ending}" for output in outputs])
    elif job.result == "instances":
        classes = [read_saved(Path(f"{output}{place.ending}")) for output in outputs]
        job.write(dict(zip(job.images, map(instances, classes), strict=True)))
    else:
        found = [np.load(f"{output}.npz")["probabilities"] for output in outputs]  # (K, 1, Y, X)
        job.write({file: array[:, 0] for file, array in zip(job.images, found, strict=True)})


class Place:
    """Where nnU-Net is told to look for everything, and what it is told to take."""

    def __init__(self, job: Job) -> None:
        self.root = job.folder / "nnunet"
        folders = []
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = str(self.root / name)
            folders.append(self.root / name / DATASET)
            folders[-1].mkdir(parents=True, exist_ok=True)
        self.raw, self.prepared, self.results = folders
        self.configuration = "2d" if job.dims == 2 else "3d_fullres"
        self.ending = ".png" if job.dims == 2 else ".nii.gz"
        os.environ["nnUNet_n_proc_DA"] = str(max(1, cores() - 1))  # its planner takes no 0


def fitted_trainer(job: Job, plans: Any, place: Place) -> Any:
    """The default trainer, of as many iterations as the minutes allow."""
    import torch
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as default

    class nnUNetTrainer(default.nnUNetTrainer):  # type: ignore[misc, name-defined]
        """Of the default's name, by which nnU-Net looks up what trained a checkpoint."""

        steps = 0

        def on_train_start(self) -> None:
            """Time some iterations, and decide how many follow."""
            super().on_train_start()
            self.network.train()
            seconds = self._seconds_an_iteration(TIMED_SHARE * job.seconds_left)
            count = max(1, int(MARGIN * job.seconds_left / seconds))
            self.num_epochs = max(1, count // AN_EPOCH)
            self.num_iterations_per_epoch = count // self.num_epochs
            self.num_val_iterations_per_epoch = 1
            self.lr_scheduler = PolyLRScheduler(self.optimizer, self.initial_lr, self.num_epochs)

        def _seconds_an_iteration(self, allowed: float) -> float:
            begun, times = time.time(), []
            while len(times) < TIMED and (not times or time.time() - begun < allowed):
                start = time.time()
                self.train_step(next(self.dataloader_train))
                times.append(time.time() - start)
            return median(times[1:] or times)  # the first one warms up

        def train_step(self, batch: Any) -> Any:
            """Count the iterations."""
            self.steps += 1
            return super().train_step(batch)

    np.random.seed(job.seed)
    torch.manual_seed(job.seed)
    torch.set_num_threads(cores())
    dataset = json.loads((place.raw / "dataset.json").read_text(encoding="utf-8"))
    plans = {**plans, "continue_training": False}
    trainer = nnUNetTrainer(plans, place.configuration, "all", dataset, device=torch.device("cpu"))
    trainer.initialize()
    return trainer


def describe(job: Job, place: Place) -> None:
    """Write `dataset.json`."""
    colour = job.dims == 2 and read(job.training[0]["image"]).ndim == 3
    names = ["red", "green", "blue"] if colour else ["grey"]
    classes = ["background", *(f"class {k}" for k in range(1, job.classes))]
    if job.result == "instances":
        classes = ["background", "interior", "border"]
    content = {
        "channel_names": {str(k): name for k, name in enumerate(names)},
        "labels": {name: k for k, name in enumerate(classes)},
        "numTraining": len(job.training),
        "file_ending": place.ending,
    }
    (place.raw / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def save_image(file: str, target: Path) -> None:
    """The same pixels in a format that nnU-Net reads."""
    target.parent.mkdir(exist_ok=True)
    if file.endswith(".nii.gz"):
        shutil.copy(file, target)
    else:
        save(read(file), target)


def save_label(job: Job, file: str, target: Path) -> None:
    """Classes; objects as interior and border."""
    target.parent.mkdir(exist_ok=True)
    if file.endswith(".nii.gz"):
        shutil.copy(file, target)
        return
    label = read(file)
    classes = interior_and_border(label) if job.result == "instances" else label > 0
    save(classes.astype(np.uint8), target)


def save(array: Array, target: Path) -> None:
    """A plane as PNG, a volume `(Z, Y, X)` as NIfTI."""
    if target.suffix == ".png":
        imsave(target, array, check_contrast=False)
        return
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(target))


def read_saved(file: Path) -> Array:
    """What `save` wrote."""
    if file.suffix == ".png":
        return read(str(file))
    import SimpleITK

    found: Array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
    return found


def interior_and_border(label: Array) -> Array:
    """Pixels of an object near a pixel of none or of another are its border."""
    low, high = label, label
    for _ in range(THICKNESS[label.ndim]):  # a pixel a time, along the axes
        low, high = erosion(low), dilation(high)
    return np.where(label == 0, 0, np.where(low == high, INTERIOR, BORDER))


def instances(classes: Array) -> Array:
    """Connected interiors, grown into the border around them; a border alone is an object too."""
    seeds = components(classes == INTERIOR, connectivity=1)
    grown = watershed(np.zeros(classes.shape), seeds, mask=classes > 0)
    alone = components((classes > 0) & (grown == 0), connectivity=1)
    found: Array = np.where(alone > 0, alone + grown.max(), grown)
    return found


if __name__ == "__main__":
    run(train=train, predict=predict)
