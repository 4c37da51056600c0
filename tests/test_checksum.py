"""Hashes of files: read once, and anew after each change, whatever times the change leaves."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path, PurePosixPath

import pytest

from unet_med.data import checksum, sha256


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Names of files that were read together, as it happens, an hour from now."""
    names: list[list[str]] = []
    of_content, now = checksum._read, time.time_ns

    def note(files: list[Path]) -> str:
        names.append([file.name for file in files])
        return of_content(files)

    monkeypatch.setattr(checksum, "_read", note)
    monkeypatch.setattr(checksum.time, "time_ns", lambda: now() + 3600 * 10**9)
    return names


def of(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_files_are_read_once(tmp_path: Path, read: list[list[str]]) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    both = [str(tmp_path / name) for name in "ba"]
    for _ in range(3):
        assert sha256(both) == of(b"b", b"a")
        assert sha256(tmp_path) == of(b"a", b"b")
        assert sha256(tmp_path / "a") == of(b"a")
    assert read == [["b", "a"], ["a", "b"], ["a"]]


def test_a_change_is_seen_where_size_and_time_are_those_of_before(
    tmp_path: Path, read: list[list[str]]
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1")
    assert sha256(file) == of(b"1")
    at = file.stat()
    time.sleep(0.02)  # the clock of a file system ticks
    file.write_bytes(b"2")
    os.utime(file, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert sha256(file) == of(b"2")
    file.unlink()
    with pytest.raises(FileNotFoundError):
        sha256(file)


def test_a_file_that_has_just_changed_is_read_again(
    tmp_path: Path, read: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes at once may leave one time."""
    file = tmp_path / "a"
    file.write_bytes(b"1")
    changed = file.stat().st_ctime_ns
    for age, count in ((4, 1), (4, 2), (6, 3), (6, 3)):
        monkeypatch.setattr(checksum.time, "time_ns", lambda age=age: changed + age * 10**9)
        assert sha256(file) == of(b"1")
        assert len(read) == count


def test_the_hash_of_values_is_what_jobs_have_written() -> None:
    """Of a job's id and of what it says of its source: another value would refuse to resume it."""
    value = {"b": [1, 2.5, None], "a": {"path": PurePosixPath("x/y"), "é": True}}
    written = "181a35cbc198091ccf4ccc73fce1e5f3cefbe596072d4bd841f3bddbcac491f6"
    assert checksum.sha256_of_values(value) == written
