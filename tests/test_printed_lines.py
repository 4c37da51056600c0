"""Lines that the commands print to be run next: a shell has to read folders with spaces as one."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from unet_med.bundle import plan_file, require_trust
from unet_med.cli.train import _next_line
from unet_med.volumes import job_actions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mein Netz; groß"


def test_of_a_training(folder: Path) -> None:
    plan_file(folder).parent.mkdir(parents=True)
    plan_file(folder).write_text('{"ids": {}}')
    words = shlex.split(_next_line(folder))
    assert words[words.index("--bundle") + 1] == str(folder)


def test_of_a_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_actions, "is_finished", lambda *_: False)
    (line,) = job_actions._unfinished(SimpleNamespace(output=folder), 0, None)  # type: ignore[arg-type]
    assert shlex.split(line)[-3:] == ["job", "finish", str(folder)]


def test_of_a_bundle_that_is_not_trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_med.bundle.trust.foreign", lambda _: ["elsewhere.Network"])
    with pytest.raises(ValueError, match="unet-med inspect") as refused:
        require_trust(folder)
    line = str(refused.value).split("`")[1]
    assert shlex.split(line) == ["unet-med", "inspect", str(folder)]
