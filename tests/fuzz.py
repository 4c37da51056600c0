"""Coverage-guided fuzzing of what reads strangers' files: `make fuzz`, or

python tests/fuzz.py tiff|config CORPUS -max_total_time=900 -timeout=20 -rss_limit_mb=2048

Needs atheris. An input that crashes, hangs or fills the memory is left as `crash-*`, `timeout-*`,
`oom-*` or `slow-unit-*` in the working directory: mend the reader, then move it to
`tests/fuzz_corpus/`, which `tests/test_fuzz.py` reads from then on.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 64 << 20


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
    "tiff": ("input.tif", read_tiff, ("tifffile", "unet_med.data.tiff")),
    "config": ("input.json", read_config, ("json.decoder", "unet_med.bundle")),
}


def main() -> None:
    """Fuzz one door for ever, or as long as libFuzzer's options say."""
    import atheris

    name, read, modules = DOORS[sys.argv.pop(1)]
    with atheris.instrument_imports(include=[module.split(".")[0] for module in modules]):
        for module in modules:
            importlib.import_module(module)

    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    path = Path(folder.name) / name

    def one_input(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
