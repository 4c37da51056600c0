"""Memory: how much is free in a machine, a container and a process; how a lack of it shows."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from unet_med import cgroups, memory


def test_a_container_leaves_less(tmp_path: Path) -> None:
    assert list(memory._free_in_container(tmp_path)) == []
    for name, text in {"memory.max": "1000\n", "memory.current": "900\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    stat = "anon 500\nactive_file 30\ninactive_file 20\n"
    (tmp_path / "memory.stat").write_text(stat, encoding="utf-8")
    assert list(memory._free_in_container(tmp_path)) == [1000 - 900 + 50]
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert list(memory._free_in_container(tmp_path)) == []


@pytest.mark.parametrize(
    ("said", "place", "limit", "use"),
    [
        ("0::/slurm/job_7/step_0\n", "", "memory.max", "memory.current"),
        (
            "9:name=systemd:/elsewhere\n4:cpu,memory:/slurm/job_7/step_0\n",
            *("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ),
    ],
)
def test_a_job_is_held_by_its_group_and_those_around_it(
    said: str, place: str, limit: str, use: str, tmp_path: Path
) -> None:
    """SLURM and systemd limit groups within groups; not all have a limit."""
    own, root = tmp_path / "cgroup", tmp_path / "root"
    own.write_text(said, encoding="utf-8")
    groups = {"slurm/job_7/step_0": ("700", 100), "slurm/job_7": ("max", 0), "slurm": ("500", 450)}
    for name, (most, used) in {**groups, "elsewhere": ("1", 1)}.items():
        folder = root / place / name
        folder.mkdir(parents=True, exist_ok=True)
        stat = "active_file 1\ninactive_file 2\n" + "total_active_file 9\n" * bool(place)
        for file, text in {limit: most, use: str(used), "memory.stat": stat}.items():
            (folder / file).write_text(text, encoding="utf-8")
    cached = 11 if place else 3
    assert list(memory._free_in_container(root, own)) == [600 + cached, 50 + cached]
    own.write_text("0::/../../other\n", encoding="utf-8")  # a container that sees its part alone
    assert list(memory._free_in_container(root, own)) == []


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_the_cores_that_its_time_is_worth(version: int, tmp_path: Path) -> None:
    own, root = tmp_path / "cgroup", tmp_path / "root"
    own.write_text("0::/pod/box\n" if version == 2 else "3:cpu,cpuacct:/pod/box\n")
    assert cgroups.cores(root, own) == math.inf

    def limit(group: str, quota: str) -> None:
        files = {"cpu.max": f"{quota} 100000\n"}
        if version == 1:
            files = {"cpu.cfs_quota_us": quota.replace("max", "-1"), "cpu.cfs_period_us": "100000"}
        folder = root / ("cpu" if version == 1 else "") / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)

    limit("pod/box", "max")
    assert cgroups.cores(root, own) == math.inf
    limit("pod", "250000")
    assert cgroups.cores(root, own) == 2.5
    limit("pod/box", "50000")
    assert cgroups.cores(root, own) == 0.5


def test_a_process_with_a_limit_of_its_own_has_less() -> None:
    code = "from unet_med.memory import available_bytes; print(available_bytes())"
    script = f"ulimit -v 500000; exec {sys.executable} -c '{code}'"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 500_000 << 10


def test_without_the_kernels_word_all_that_is_built_in_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free = memory._free_on_machine()
    assert free > 1 << 20
    monkeypatch.setattr(memory, "Path", lambda _: tmp_path / "nothing")
    assert memory._free_on_machine() > free


def test_within_a_moment_memory_is_measured_once_unless_room_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of hundreds of small images a second, each asks."""
    now, free = [100.0], iter([5 << 30, 4 << 30, 3 << 30])
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(memory, "_free_on_machine", lambda: next(free))
    monkeypatch.setattr(memory, "_free_in_container", lambda: [])
    monkeypatch.setattr(memory, "_free_in_process", lambda: [])
    memory._measured.cache_clear()
    assert [memory.available_bytes() for _ in range(3)] == [5 << 30] * 3
    now[0] += 0.25
    assert memory.available_bytes() == 4 << 30
    memory.free_memory(None)
    assert memory.available_bytes() == 3 << 30
    memory._measured.cache_clear()
