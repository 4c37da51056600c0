"""Prepare the batch of a training step, and read its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import PrepareBatch

from unet_med.data.dataset import SeededDataset
from unet_med.data.entries import DRAWS, LINES

Augment = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class PrepareBatchWeighted(PrepareBatch):
    """Batch for `SupervisedTrainer`: image, and label with its weight map packed into one target.

    MONAI calls `loss(prediction, target)` with exactly two arguments, so the
    weights travel as a second channel: target `(B, 2, *S)`, or `(B, 1, *S)`
    where a batch has no weights (validation without them). Metrics of the trainer are given that
    target: its first channel is the label.

    Args:
        image_key: entry of the image `(B, C, *S)`.
        label_key: entry of the label `(B, 1, *S)`; may be absent at prediction.
        weight_key: entry of the weight map `(B, 1, *S)`; may be absent.
        targets: makes the target `(B, 2, *S)` of the labels of a batch on its device, where
            the items have no weights; see `unet_med.transforms.Weighing`.
        augment: applies what was drawn for the items, their entry `DRAWS`, to image and label
            and before weights are made; see `unet_med.transforms.Augmenting`.
        dataset: whose `on_device` has image and label of a batch that holds only lines.
    """

    def __init__(
        self,
        image_key: str = "image",
        label_key: str = "label",
        weight_key: str = "weight",
        targets: Callable[[torch.Tensor], torch.Tensor] | None = None,
        augment: Augment | None = None,
        dataset: SeededDataset | None = None,
    ) -> None:
        self.targets = targets
        self.augment = augment
        self.dataset = dataset
        self.image_key = image_key
        self.label_key = label_key
        self.weight_key = weight_key

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return `(image, target)` on the device.

        Raises:
            TypeError: the batch is no dictionary.
        """
        if not isinstance(batchdata, Mapping):
            raise TypeError(
                f"a batch is a {type(batchdata).__name__}, and its {self.image_key}, "
                f"{self.label_key} and {self.weight_key} are read by name: let the data set give "
                "dictionaries, as MONAI's do"
            )
        if LINES in batchdata:
            batchdata = {**batchdata, **self._pixels(batchdata[LINES])}
        image = batchdata[self.image_key].to(device=device, non_blocking=non_blocking, **kwargs)
        keys = [key for key in (self.label_key, self.weight_key) if key in batchdata]
        if self.label_key not in keys:
            return image, None
        parts = [batchdata[key].to(device=device, non_blocking=non_blocking) for key in keys]
        if self.augment is not None and DRAWS in batchdata:
            image, parts[0] = self.augment(image, parts[0], batchdata[DRAWS])
        if len(parts) == 1:
            return image, parts[0] if self.targets is None else self.targets(parts[0])
        return image, torch.cat([part.to(torch.float32) for part in parts], dim=1)  # (B, 2, *S)

    def _pixels(self, lines: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Image and label of a batch that holds none, because they are on the device."""
        images = None if self.dataset is None else self.dataset.on_device
        if images is None:
            raise ValueError("a batch of lines, and no images that they are of: give `dataset`")
        return images.tiles(lines)


READ_EVERY = 32  # steps on a GPU: to read a loss, the host waits until the step is done


def loss_of(output: Any) -> torch.Tensor:
    """Loss in the output of a training step, a number on its device; MONAI may decollate it."""
    loss = (output[0] if isinstance(output, list) else output)["loss"]
    if isinstance(loss, torch.Tensor):
        return loss.detach()
    return torch.tensor(loss, dtype=torch.float64)


def last_loss(engine: Engine) -> torch.Tensor:
    """Loss of a trainer's last step, on its device."""
    return loss_of(engine.state.output)


def read_now(engine: Engine) -> bool:
    """Whether the losses so far are to be read: on a CPU always, on a GPU now and then."""
    return last_loss(engine).device.type == "cpu" or engine.state.iteration % READ_EVERY == 0


def read_losses(losses: Sequence[torch.Tensor | float]) -> list[float]:
    """Losses as numbers; the host waits for a GPU once."""
    there = [loss for loss in losses if isinstance(loss, torch.Tensor)]
    found = iter(torch.stack(there).tolist() if there else ())
    return [next(found) if isinstance(loss, torch.Tensor) else loss for loss in losses]
