"""A training of a session: `unet-med train` in a process of its own, and how far it is."""

from __future__ import annotations

import atexit
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_med.bundle import read_plan
from unet_med.napari_widget.fields import in_napari
from unet_med.napari_widget.session import Session
from unet_med.report.training import Row, read_history

STOPPED = (130, 143, -15)  # by ^C; by SIGTERM, heard or before anybody listened
DONE = re.compile(r"(\d+)% done")  # of the lines of `unet_med.handlers.ProgressBar`


@dataclass(frozen=True)
class Progress:
    """How far a training is, from the files that it writes.

    Attributes:
        fraction: of its minutes, 0 to 1; 1 of a training that has ended by itself.
        said: the last line that it said.
        history: rows of its learning curve, as the report reads them.
        pictures: the curve, and results on held-out images; those that are there.
        planned: what was decided that a user should read, as soon as it is.
    """

    fraction: float
    said: str
    history: list[Row]
    pictures: tuple[Path, ...]
    planned: str = ""


def planned(folder: Path) -> str:
    """What a bundle's labels are taken for and what it holds out, with reasons; empty at first."""
    try:
        ids = read_plan(folder).get("ids", {})
    except (OSError, ValueError):  # it is being written
        return ""
    kind, split = (ids.get(id) for id in ("label_kind", "split_file"))
    words = [f"labels are {kind['value']}: {kind['reason']}"] if kind else []
    return in_napari("; ".join([*words, *([split["reason"]] if split else [])]))


class Training:
    """A training in a process of its own, which stops when this one ends.

    Args:
        session: which has annotated images.
        minutes: its budget.
        go_on: start from the session's bundle, which may also be one that was put there.
        options: further words of `unet-med train`.

    Raises:
        ValueError: nothing is annotated, there is no bundle to go on from, or another training
            is running in the session.
    """

    def __init__(
        self, session: Session, minutes: float, *, go_on: bool = False, options: Sequence[str] = ()
    ) -> None:
        if not session.pairs():
            raise ValueError(f"{session.folder} has no annotated images: add a pair first")
        if go_on and not session.is_trained:
            raise ValueError(f"{session.folder} has no trained bundle to go on from: train first")
        self.session = session
        self.minutes = minutes
        self._stopped = False
        self._bundle = session.training  # where it writes, and from its end what it became
        places = {"images": session.images, "labels": session.labels, "output": session.training}
        places |= {"from": session.bundle} if go_on else {}
        words = [word for name, place in places.items() for word in (f"--{name}", str(place))]
        command = [sys.executable, "-m", "unet_med", "train", *words, "--minutes", f"{minutes:g}"]
        with session.log() as log:
            log.truncate(0)
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # ^C in napari's terminal reaches it once, through `stop`
            )  # fmt: skip
        atexit.register(self.stop)

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask the process to end: after its step, with the weights that it has by then.

        Windows ends it at once, and leaves the weights of the last whole minute.
        """
        if not self._stopped and self.is_running:
            self._stopped = True  # a second signal would not wait for the step
            self._process.terminate()

    def progress(self) -> Progress:
        """Read how far it is, or how far it came."""
        models = self._bundle / "models"
        history = read_history(models / "learning_curve.csv")
        lines = self._lines()
        shares = [int(found[1]) / 100 for line in lines if (found := DONE.search(line))]
        shares += [row["minutes"] / self.minutes for row in history[-1:]]
        if self._process.poll() == 0:  # before its minutes are over: the end of them was reserved
            shares.append(1.0)
        pictures = (models / f"{name}.png" for name in ("learning_curve", "preview"))
        return Progress(
            min(1.0, max(shares, default=0.0)),
            lines[-1] if lines else "starting",
            history,
            tuple(picture for picture in pictures if picture.is_file()),
            planned(self._bundle),
        )

    def finish(self) -> str:
        """Wait for the end, make what was learned the session's bundle, and say how it went."""
        code = self._process.wait()
        atexit.unregister(self.stop)
        new = self.session.settle()
        self._bundle = self.session.bundle if new else self.session.training
        kept = "the bundle has what was learned by then" if new else "the bundle is as it was"
        if code == 0:
            return "trained"
        if code in STOPPED or self._stopped:
            return f"stopped: {kept}"
        lines = self._lines()
        why = lines[-1] if lines else f"exit code {code}"
        return f"failed ({in_napari(why)}): {kept}"

    def _lines(self) -> list[str]:
        text = (self.session.folder / "training.log").read_text(encoding="utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]
