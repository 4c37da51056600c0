"""What has been done of a job: a marker a finished block, and one of the last step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_med.data.atomic import write_json
from unet_med.volumes.blocks import Block
from unet_med.volumes.job_file import read_undamaged

_FINISHED = "finished.json"  # of the last step, when it is done
_WAY_OUT = "delete it, and run again with --resume"  # what it told of is done anew


@dataclass(frozen=True)
class Markers:
    """The markers of a job: `done/` and `failed/`, a file a block, and that of the last step.

    Attributes:
        folder: of the job.
        job: its id; markers of another are refused.
    """

    folder: Path
    job: str

    def of(self, block: Block) -> dict[str, Any] | None:
        """What was noted when a block was finished; None before.

        Raises:
            ValueError: the marker is of another job.
        """
        return self._read(self._path("done", block))

    def all(self) -> list[dict[str, Any]]:
        """What was noted of all finished blocks; a file each is read."""
        return self._notes("done")

    def count(self) -> int:
        """Number of finished blocks."""
        return len(self._files("done"))

    def missing(self, blocks: Sequence[Block]) -> list[int]:
        """Numbers of the blocks that are not finished, by the names of the files alone."""
        done = {file.stem for file in self._files("done")}
        return [number for number, block in enumerate(blocks) if block.name not in done]

    def failures(self) -> list[dict[str, Any]]:
        """What was noted of blocks that were begun and not finished."""
        done = {file.name for file in self._files("done")}
        return [note for note in self._notes("failed") if f"{note['block']}.json" not in done]

    def note(self, kind: str, block: Block, **details: Any) -> None:
        """Write a marker, in one step.

        Args:
            kind: `"done"`, which takes a note of failure away, or `"failed"`.
            block: what it is about.
            details: to note.
        """
        (self.folder / _FINISHED).unlink(missing_ok=True)  # it knows nothing of what comes now
        content = {"job": self.job, "block": block.name, **details}
        write_json(self._path(kind, block), content)
        if kind == "done":
            self._path("failed", block).unlink(missing_ok=True)

    def finished(self) -> dict[str, Any] | None:
        """What was noted when the last step was done; None before, and once a block is done anew.

        Raises:
            ValueError: the note is of another job.
        """
        return self._read(self.folder / _FINISHED)

    def note_finished(self, **details: Any) -> None:
        """Write the marker of the last step, in one step."""
        write_json(self.folder / _FINISHED, {"job": self.job, **details})

    def require_own(self) -> None:
        """Refuse markers of another job; all are read.

        Raises:
            ValueError: names one.
        """
        for marker in self.all():
            if marker["job"] != self.job:
                raise ValueError(
                    f"block {marker['block']} of {self.folder.name.removesuffix('.job')} was made "
                    f"by job {marker['job']}, not {self.job}: choose a new --output"
                )

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        marker = read_undamaged(path, _WAY_OUT)
        if marker["job"] != self.job:
            raise ValueError(f"{path} is of job {marker['job']}, not {self.job}")
        return marker

    def _path(self, kind: str, block: Block) -> Path:
        return self.folder / kind / f"{block.name}.json"

    def _files(self, kind: str) -> list[Path]:
        return sorted((self.folder / kind).glob("[0-9]*.json"))

    def _notes(self, kind: str) -> list[dict[str, Any]]:
        notes = []
        for file in self._files(kind):
            with suppress(FileNotFoundError):  # of a failure, taken away by who did the block
                notes.append(read_undamaged(file, _WAY_OUT))
        return notes
