"""What an error means: what a user reads of it, whether memory was short, whether all is over."""

from __future__ import annotations

import errno
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the disk, the quota; one that is read-only

# What torch, the libraries of GPUs, C++ and oneDNN say where an allocation fails.
_SHORT = re.compile(
    "|".join(
        (
            *("out of memory", "can't allocate memory", "not enough memory", "bad_alloc"),
            # of oneDNN, whose descriptors take none: it has none of what a device cannot do
            r"could not create a (primitive|memory)(?! (descriptor|attribute))",
            *("ALLOC_FAILED", "ALLOCATION_FAILED", "OUT_OF_DEVICE_MEMORY", "OUT_OF_HOST_MEMORY"),
            # a library finds no room for what it keeps on the GPU itself
            *("CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_NOT_INITIALIZED"),
            "unable to find an engine",  # of cuDNN, for want of workspace
        )
    )
)


def user_error(error: BaseException | None) -> BaseException | None:
    """The error in a chain whose text is for the user: about a value, a file or a package.

    MONAI wraps what a transform or a component raises in a RuntimeError; the outermost error
    of another kind has the sentence.

    Returns:
        That error, or None if there is none: then it is a defect of this package.
    """
    while error is not None:
        if isinstance(error, (ValueError, OSError, ImportError, FloatingPointError)):
            return error
        error = error.__cause__
    return None


def one_line(error: BaseException) -> str:
    r"""Write an error in one line: the user's error, else the innermost one with its class.

    >>> one_line(ValueError("no such\naxis")), one_line(KeyError("x"))
    ('no such axis', "KeyError: 'x'")
    """
    found = user_error(error)
    if found is not None:
        return " ".join(_text(found).split())
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _text(error: BaseException) -> str:
    """What an error says, without the number of a system's error."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception means that memory did not suffice.

    MONAI raises an error of its own from what a transform raises: the cause counts too.
    """
    while error is not None:
        if _is_short(error) or isinstance(error, MemoryError):
            return True
        error = error.__cause__
    return False


def is_broken_gpu(error: BaseException | None) -> bool:
    """Whether CUDA has failed in a way that ends all its work in this process.

    After an illegal access or a failed assertion on the device every further call fails, whatever
    it is about. A lack of memory passes.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and "CUDA error" in str(error) and not _is_short(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_short(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and _SHORT.search(str(error)) is not None


def broken_gpu(error: BaseException, advice: str) -> OSError:
    """The error that ends a run in which `is_broken_gpu`, in one sentence."""
    first = str(error).strip().split("\n")[0]
    return OSError(f"the GPU can do no more in this process ({first}): {advice}")


def is_full(error: BaseException) -> bool:
    """Whether a file could not be written for want of space, or of a right to any.

    Of another OSError, such as a chunk that cannot be read, nothing is known of other files.
    """
    found = user_error(error)
    return isinstance(found, OSError) and found.errno in _FULL


def befalls_all(error: BaseException) -> bool:
    """Whether an error would occur with every image.

    So does one for which no file can be written or no package found, and one that breaks a GPU.
    """
    if is_broken_gpu(error):
        return True
    found = user_error(error)
    if isinstance(found, OSError) and found.errno == errno.ENAMETOOLONG:
        return False
    return isinstance(found, (OSError, ImportError)) and not isinstance(found, FileNotFoundError)


MISSED_DECODER = "monai.data.nvimgcodec_pydicom_plugin"  # logger: for GPUs, once pydicom is there


def hush_decoder() -> None:
    """Have a program keep quiet about a decoder for GPUs that MONAI misses where pydicom is."""
    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader")
    logging.getLogger(MISSED_DECODER).setLevel(logging.ERROR)


@contextmanager
def hushed(name: str, below: int) -> Iterator[None]:
    """Without what another package's logger says below a level."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(below)
    try:
        yield
    finally:
        logger.setLevel(before)
