"""Coverage-guided fuzzing of what reads strangers' files: `make fuzz`, or

python tests/fuzz.py tiff|config CPU_SECONDS CORPUS -timeout=300 -rss_limit_mb=3000

Needs atheris. libFuzzer's own `-max_total_time` counts the clock; here the processor's time
counts, since a fuzzer runs beside other work; its `-timeout` is for what never ends. An input that
crashes, takes long or fills the memory is left as `crash-*`, `timeout-*` or `oom-*` in the working
directory: mend the reader, then move it to `tests/fuzz_corpus/`, which `tests/test_fuzz.py` reads
from then on. (`slow-unit-*` goes by the clock, too.)
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 64 << 20
MAX_SECONDS = 20


def read_tiff(path: Path) -> None:
    """An image, or one sentence; anything else is a defect."""
    from unet_med.data import TiffReader

    try:
        volume = TiffReader(max_bytes=MAX_BYTES).open(path)
    except ValueError as error:
        require_sentence(error)
    else:
        if volume.array.nbytes > MAX_BYTES:
            raise RuntimeError(f"{volume.array.nbytes} bytes in spite of the limit")


def read_config(path: Path) -> None:
    """What a config would call, or one sentence; nothing is called."""
    from unet_med.bundle import targets_of

    try:
        targets_of([path])
    except ValueError as error:
        require_sentence(error)


def require_sentence(error: ValueError) -> None:
    """What the user sees fits on a screen, in a line."""
    if "\n" in str(error) or len(str(error)) > 700:
        raise RuntimeError(f"no sentence: {error}") from error


DOORS: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    "tiff": ("input.tif", read_tiff, ("tifffile", "unet_med.data.tiff_reader")),
    "config": ("input.json", read_config, ("json.decoder", "unet_med.bundle")),
}


def main() -> None:
    """Fuzz one door for so many seconds of the processor, or until something is found."""
    import atheris

    door, seconds = sys.argv.pop(1), float(sys.argv.pop(1))
    name, read, modules = DOORS[door]
    with atheris.instrument_imports(include=[module.split(".")[0] for module in modules]):
        for module in modules:
            importlib.import_module(module)

    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    path = Path(folder.name) / name

    inputs = 0

    def one_input(data: bytes) -> None:
        nonlocal inputs
        begin = time.process_time()
        path.write_bytes(data)
        read(path)
        inputs += 1
        if time.process_time() - begin > MAX_SECONDS:
            raise RuntimeError(f"more than {MAX_SECONDS} s of CPU")
        if time.process_time() > seconds:
            folder.cleanup()
            print(f"{door}: {inputs} inputs in {seconds:.0f} s of CPU, and none was a defect")
            sys.stdout.flush()
            os._exit(0)  # libFuzzer takes an exception for a finding

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
