"""Set aside an image that fails, with its reason, and segment the others.

An error of one image (it cannot be read, it does not fit the network, it needs too much memory)
sets that image aside. An error of the machine (the disk is full, the folder is not writable) would
occur with every image and ends the run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai.data import Dataset

from unet_med.data.atomic import read_json, write_json
from unet_med.data.cases import files_of
from unet_med.data.folder_files import RECORD, predicted_in
from unet_med.data.lock import locked
from unet_med.errors import befalls_all, broken_gpu, is_broken_gpu, one_line
from unet_med.handlers.evaluator import WholeImageEvaluator, name_of

REPORT = "failed.json"
_REASON = "why it was set aside"  # entry of an item that has nothing but its name
_IMAGE = "unet_med_image"  # attribute of an error that ends a run: the file that it is about


class Fault(NamedTuple):
    """An image that was set aside.

    Attributes:
        image: its file, the first of several.
        reason: one sentence.
    """

    image: str
    reason: str


def require_any_segmented(faults: Sequence[Fault], count: int) -> None:
    """Refuse a run that set aside each of its images.

    Raises:
        ValueError: not one image could be segmented; gives the first reason.
    """
    if faults and len(faults) == count:
        others = f"none of {count} images could be segmented; the first: " if count > 1 else ""
        raise ValueError(others + faults[0].reason)


def image_of(error: BaseException) -> str | None:
    """File of the image whose error ended a run; None where it would occur with any image."""
    return getattr(error, _IMAGE, None)


def _note_image(error: Exception, image: str) -> None:
    """Write into an error which file it is about."""
    if not befalls_all(error):
        setattr(error, _IMAGE, image)


class NoItems(list[Any]):
    """Items of a batch of which none is left, as MONAI decollates it.

    `from_engine` looks at the first to see that items are dictionaries: with this, metrics and
    handlers get empty lists.
    """

    def __getitem__(self, index: Any) -> Any:
        return {} if index == 0 else super().__getitem__(index)


class SkipFailuresDataset(Dataset):
    """MONAI's `Dataset`; if the transform of an item fails, the item holds name and reason.

    For `SkipFailuresEvaluator`, with batches of one.

    Args:
        data: MONAI data list, whose items name their files as `"image"`.
        transform: reads and checks one item.
        fail_fast: raise the first error instead.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Any = None,
        *,
        fail_fast: bool = False,
    ) -> None:
        super().__init__(data, transform)
        self.fail_fast = fail_fast

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            name = files_of(self.data[index]["image"])[0]
            if self.fail_fast or befalls_all(error):
                _note_image(error, name)
                raise
            return {"image": name, _REASON: one_line(error)}


class SkipFailuresEvaluator(WholeImageEvaluator):
    """Evaluator that goes on after an image that fails, and lists it.

    Args:
        *args: of `WholeImageEvaluator`.
        fail_fast: end with the first error instead.
        report_dir: folder in which `failed.json` appears where images failed; those of other
            images that an earlier run reported there stay listed. A single image that fails is
            listed where the folder is there already.
        **kwargs: likewise.

    Attributes:
        faults: what was set aside in the last run, in the order of the images.
    """

    def __init__(
        self,
        *args: Any,
        fail_fast: bool = False,
        report_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fail_fast = fail_fast
        self.report_dir = None if report_dir is None else Path(report_dir)
        self.faults: list[Fault] = []

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Run over all images.

        Raises:
            ValueError: not one image could be segmented.
        """
        self.faults.clear()
        if not len(self.data_loader):  # type: ignore[arg-type]
            return  # everything was done before
        try:
            super().run(global_epoch)
        except BaseException as error:
            if not self._has_nothing_to_score(error):
                self._report(max(0, self.state.iteration - 1))  # but for the one that ended the run
                raise
        count = self.state.epoch_length or 0
        self._report(count)
        require_any_segmented(self.faults, count)

    def _has_nothing_to_score(self, error: BaseException) -> bool:
        """Whether a metric complains because every image was set aside."""
        every = len(self.faults) == self.state.epoch_length
        return every and isinstance(error, Exception) and not befalls_all(error)

    def _report(self, count: int) -> None:
        """List what was set aside of the first `count` images."""
        if self.report_dir is None or not (count > 1 or self.report_dir.is_dir()):
            return
        data = getattr(getattr(self.data_loader, "dataset", None), "data", None) or ()
        seen = [files_of(item["image"])[0] for item in data if "image" in item]
        report_faults(self.report_dir, self.faults, seen[:count], count)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> Any:
        if _REASON in batchdata:
            return self._set_aside(batchdata["image"][0], batchdata[_REASON][0])
        name = name_of(batchdata)
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:
            if is_broken_gpu(error):
                raise broken_gpu(error, f"it was at {name}; go on with --resume") from error
            if self.fail_fast or befalls_all(error):
                _note_image(error, name)
                raise
            return self._set_aside(name, one_line(error))

    def _set_aside(self, image: str, reason: str) -> NoItems:
        self.faults.append(Fault(image, reason))
        logging.getLogger(__name__).info("set aside %s: %s", image, reason)
        self.state.batch, self.state.output = NoItems(), NoItems()
        return self.state.output


def report_faults(folder: Path, faults: Sequence[Fault], seen: Sequence[str], count: int) -> None:
    """List in `failed.json` what was set aside, together with what other runs report there.

    Its numbers are of all images of the folder: those of other shards and of earlier runs of the
    same weights, as `record.json` has them, count too.

    Args:
        folder: of the results.
        faults: of this run.
        seen: files, the first of each image, that this run went through: it knows better of these.
        count: how many images that were.
    """
    path = folder / REPORT
    with locked(path.with_name(RECORD)):
        earlier = _of_others(path, {*seen, *(fault.image for fault in faults)})
        known = len(predicted_in(folder))  # a run that was stopped may have done more
        segmented = max(count - len(faults), known)
        write_report(path, [*earlier, *faults], segmented + len(earlier) + len(faults))


def _of_others(path: Path, seen: set[str]) -> list[Fault]:
    """What an earlier run reported of images that are there and that this run does not see."""
    try:
        listed = read_json(path)["failed"]
        faults = [Fault(**entry) for entry in listed]
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours
        return []
    return [f for f in faults if f.image not in seen and Path(f.image).exists()]


def write_report(path: Path, faults: Sequence[Fault], count: int) -> None:
    """Write what was set aside as JSON, atomically; without faults, remove an earlier report."""
    if not faults:
        path.unlink(missing_ok=True)
        return
    content = {
        "images": count,
        "segmented": count - len(faults),
        "failed": [fault._asdict() for fault in faults],
    }
    write_json(path, content, indent=2, ensure_ascii=False)
