"""Control groups of Linux: what a container, a job of SLURM or a unit of systemd is held by.

A group is held by the limits of all those around it too.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")  # where groups are mounted
OWN = Path("/proc/self/cgroup")  # names the groups of this process


def folders(controller: str, place: str, root: Path = ROOT, own: Path = OWN) -> list[Path]:
    """Folders of this process's group and of those around it, from the inside out.

    Args:
        controller: such as `"memory"`; empty for version 2, which has one group for all.
        place: of the controller, below `root`.
        root: where groups are mounted.
        own: names the groups of this process.
    """
    group = _group(own, controller)
    return [root / place / each for each in (group, *group.parents)]


def cores(root: Path = ROOT, own: Path = OWN) -> float:
    """Cores that limits of processor time are worth, such as `docker run --cpus 2`.

    Args:
        root: where groups are mounted.
        own: names the groups of this process.

    Returns:
        Infinite where there is no limit.
    """
    worth = [math.inf]
    for controller, files in (
        ("", ["cpu.max"]),  # version 2
        ("cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]),  # version 1
    ):
        for folder in folders(controller, controller, root, own):
            try:
                said = " ".join((folder / name).read_text("utf-8") for name in files)
                quota, period = map(int, said.split())
            except (OSError, ValueError):  # no such limit, or "max"
                continue
            if quota > 0:  # -1 is none
                worth.append(quota / period)
    return min(worth)


def _group(own: Path, controller: str) -> PurePosixPath:
    """This process's group of a controller, below where groups are mounted; there if unknown."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controller in controllers.split(",") and ".." not in path:  # above what is mounted
            return PurePosixPath(path.lstrip("/"))
    return PurePosixPath()
