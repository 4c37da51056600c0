"""What is done to one block, by any process; doing it twice changes nothing."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from unet_med.data.checksum import bytes_of
from unet_med.errors import broken_gpu, is_broken_gpu, is_full, one_line
from unet_med.precision import chosen_precision
from unet_med.segmentation import Volume
from unet_med.transforms.confidence import dice_terms, uncertainty
from unet_med.volumes.blocks import Block
from unet_med.volumes.job import BlockJob
from unet_med.volumes.objects import box_of, save_objects
from unet_med.volumes.store import open_level, write_block

_READ_TRIES = 3
_ONE_AT_A_TIME = threading.Lock()  # a worker of a cluster may have several threads, one model


@dataclass(frozen=True)
class Outcome:
    """What became of a block.

    Attributes:
        number: of the block, in C order.
        voxels: of the block that were worked; 0 if it had been done before.
        error: why it failed; empty if it did not.
    """

    number: int
    voxels: int
    error: str = ""


@dataclass(frozen=True)
class Worker:
    """A process's job and volume, opened once."""

    job: BlockJob
    volume: Volume

    @classmethod
    def open(cls, output: str | Path, device: str | None = None) -> Worker:
        """Load job, bundle and source, and refuse what is not as it was planned.

        Args:
            output: whose job.
            device: such as `"cuda:1"`; the job's when None.

        Raises:
            ValueError: see `BlockJob.check`.
        """
        job = BlockJob.load(output)
        job.check()
        return cls(job, job.volume(device or job.device))

    @property
    def precision(self) -> str:
        """In which the network predicts; see `chosen_precision`."""
        segmenter = self.volume.segmenter
        return chosen_precision(segmenter.inferer.precision, segmenter.device)

    def do(self, number: int) -> Outcome:
        """Predict a block, write its shards, then its marker; nothing if it is done already.

        A failure is noted and given back, not raised: other blocks go on.

        Raises:
            OSError: the GPU is broken, or nothing can be written: no other block would succeed.
        """
        block = self.job.blocks[number]
        if self.job.markers.of(block):
            return Outcome(number, 0)
        started = time.perf_counter()
        try:
            self.job.markers.note("failed", block, error="in work, or its process died at it")
            probabilities, views = self._patiently(block)
            dice, doubt = self.judge(probabilities)
            layers = self.write(block, probabilities, doubt)
            details = {
                "checksum": checksum(layers),
                "seconds": round(time.perf_counter() - started, 3),
                "tile": self.volume.segmenter.inferer.sides[::-1],  # less where memory was short
                "dice": dice,
                "views": views,
            }
            self.job.markers.note("done", block, **details)
        except Exception as error:
            if self.job.markers.of(block):  # another process was quicker, and has swept up since
                return Outcome(number, 0)
            text = one_line(error)[:300]
            self.job.markers.note("failed", block, error=text)
            if is_broken_gpu(error):  # no other block would succeed in this process
                raise broken_gpu(error, "run again with --resume") from error
            if is_full(error):
                raise
            return Outcome(number, 0, text)
        return Outcome(number, layers[0].size)

    def predict(self, block: Block, tile: Sequence[int]) -> np.ndarray:
        """Class probabilities of a block, `(K, [Z,] Y, X)`.

        Args:
            block: which one.
            tile: largest input sides of the network, px, `([Z,] Y, X)`.
        """
        return self.look(block, tile)[0]

    def look(self, block: Block, tile: Sequence[int]) -> tuple[np.ndarray, list[int] | None]:
        """Class probabilities of a block, and how far the views agree; see `Volume.look`."""
        values, views = self.volume.look(box_of(block, turned=True), tile[::-1])
        values = values.swapaxes(1, -1)  # (K, [Z,] Y, X)
        return np.ascontiguousarray(values.cpu().numpy()), views

    def judge(self, probabilities: np.ndarray) -> tuple[list[float] | None, np.ndarray | None]:
        """How sure the bundle is of a block: terms of the expected Dice, and the map.

        Args:
            probabilities: of the block, `(K, [Z,] Y, X)`.

        Returns:
            `unet_med.transforms.confidence.dice_terms`, and `uncertainty` `([Z,] Y, X)`; None of
            a bundle that does not say it.
        """
        rule = self.volume.confidence
        if rule is None:
            return None, None
        calibrated, found = rule.judge(torch.from_numpy(probabilities))
        return dice_terms(calibrated, found), uncertainty(calibrated, found)[0].numpy()

    def write(
        self, block: Block, probabilities: np.ndarray, doubt: np.ndarray | None
    ) -> list[np.ndarray]:
        """Write what the job wants of a block; returns its layers at full resolution."""
        if self.job.objects:
            classes = self.volume.rules.classes(torch.from_numpy(probabilities))
            save_objects(self.job.folder, block, classes.numpy())
        written = []
        for layer in self.job.layers:
            if layer.name == "instances":  # numbered when all blocks are there
                continue
            if layer.name == "probabilities":
                pixels = self.given(probabilities)
            else:
                label = self.mask(probabilities) if layer.name == "mask" else doubt
                pixels = np.asarray(label).astype(layer.dtype)
            write_block(self.job.output, layer, block, pixels, self.job.layout)
            written.append(pixels)
        return written

    def given(self, probabilities: np.ndarray) -> np.ndarray:
        """Class probabilities `(K, [Z,] Y, X)` as the bundle gives them out: calibrated or not."""
        if self.volume.calibration is None:
            return probabilities
        return np.asarray(self.volume.calibration(torch.from_numpy(probabilities)))

    def mask(self, probabilities: np.ndarray) -> np.ndarray:
        """The bundle's mask of class probabilities `(K, [Z,] Y, X)`, in its values."""
        classes = self.volume.classes(torch.from_numpy(probabilities))[0]
        return self.volume.segmenter.values_of(classes.numpy().astype(np.int64))

    def read(self, block: Block) -> list[np.ndarray]:
        """What stands in the output for a block, layer by layer, at full resolution."""
        return [
            np.asarray(open_level(self.job.output, layer)[(..., *block.slices)])
            for layer in self.job.layers
            if layer.name != "instances"
        ]

    def _patiently(self, block: Block) -> tuple[np.ndarray, list[int] | None]:
        """Read errors are tried again."""
        for tries in range(1, _READ_TRIES):
            try:
                return self.look(block, self.job.tile)
            except OSError:
                time.sleep(0.5 * 4**tries)
        return self.look(block, self.job.tile)


def predict_block(address: tuple[str, str], number: int, device: str | None = None) -> Outcome:
    """Do one block of a job; what every executor calls, in any process.

    Args:
        address: the output and the id of its job.
        number: of the block, in C order.
        device: such as `"cuda:1"`; the job's when None.

    Raises:
        ValueError: the job is another by now, or see `BlockJob.check`.
    """
    with _ONE_AT_A_TIME:
        worker = _worker(address, device)
        with threads_of(worker.job):
            return worker.do(number)


def checksum(layers: Sequence[np.ndarray]) -> str:
    """Hash of a block's pixels, layer after layer."""
    digest = hashlib.sha256()
    for pixels in layers:
        digest.update(bytes_of(pixels))
    return digest.hexdigest()


@contextmanager
def threads_of(job: BlockJob) -> Iterator[None]:
    """As many threads as a job's blocks take, on which last digits depend; then as many as before.

    The process may have other work besides.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _worker(address: tuple[str, str], device: str | None) -> Worker:
    output, job = address
    worker = Worker.open(output, device)
    if worker.job.id != job:
        raise ValueError(f"the job of {output} is {worker.job.id} by now, no longer {job}")
    return worker
