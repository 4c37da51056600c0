"""What only a POSIX system has is not missed elsewhere; `mypy --platform win32` names such places.

Windows itself is not at hand: a process plays it, which lacks what Windows lacks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WINDOWS = """
import argparse, ctypes, fractions, importlib, json, logging, multiprocessing, os, pathlib, shutil
import signal, subprocess, sys, tempfile, threading, types
for module, names in (
    (signal, ("SIGALRM", "setitimer", "getitimer", "ITIMER_REAL", "SIGKILL", "alarm")),
    (os, ("sysconf", "fork", "killpg", "getuid", "statvfs")),
):
    for name in names:
        delattr(module, name)
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios")))

def told(status):
    assert status._obj.length == 64
    status._obj.free = 5 << 30

kernel = types.SimpleNamespace(GlobalMemoryStatusEx=told)
ctypes.windll = types.SimpleNamespace(kernel32=kernel)
sys.platform = "win32"

from unet_med.cli import main
from unet_med.data.atomic import atomic_write
from unet_med import memory
folder = pathlib.Path(sys.argv[1])
with atomic_write(folder / "a" / "file.txt") as path:
    path.write_text("whole", encoding="utf-8")
assert [p.name for p in (folder / "a").iterdir()] == ["file.txt"]
memory.Path = lambda name: folder / "nothing"  # no /proc, no /sys
assert memory._memory() == memory._free_on_machine() == 5 << 30
assert list(memory._free_in_process()) == []
sys.exit(main(["inspect", sys.argv[2]]))
"""


def test_the_command_runs_without_what_windows_lacks(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", WINDOWS, str(tmp_path), str(root)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "unet_med.inferers.OverlapTileInferer" in done.stdout
