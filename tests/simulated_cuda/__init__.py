"""A CUDA device without a GPU: the `gpu` tests run on it, and it counts what a GPU would wait for.

Its memory is the host's and its kernels are the CPU's; in all else its tensors are on `cuda:0`.
It shows whether code puts its tensors on the right device, how many kernels it starts, and where
the host waits. It shows nothing about speed, rounding, cuDNN, streams or pinned memory.

`SIMULATED_CUDA=1 python -m pytest -m gpu` runs the tests on it, and with `required` in place of
`1` a missing compiler is an error. A CUDA build of torch has a device of its own, or none, and
there the tests say so. `PYTHONPATH=tests python -m simulated_cuda MODULE ...` runs any
module.
"""

from __future__ import annotations

import os

from simulated_cuda.library import NoCompilerError, OwnCudaError, load

VARIABLE = "SIMULATED_CUDA"
NAME = "simulated"  # of the device

__all__ = [
    "VARIABLE",
    "NoCompilerError",
    "OwnCudaError",
    "is_simulated",
    "switch_on",
    "switch_on_if_asked",
]


def switch_on() -> None:
    """Let this process have a CUDA device; torch must not be imported yet."""
    load()
    from simulated_cuda.driver import pretend

    pretend()


def is_simulated() -> bool:
    """Whether the CUDA device of this process is the simulated one, whose kernels are the CPU's.

    Where tests compare device and CPU, they may then be equal; a real GPU adds up in another order,
    contracts products and sums, and may take other kernels for other sizes.
    """
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_name() == NAME


def switch_on_if_asked() -> str | None:
    """Do it where the environment says so.

    Returns:
        Why there is no device although it was asked for; None where all is well.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return None
    try:
        switch_on()
    except NoCompilerError as error:
        if asked == "required":
            raise
        return str(error)
    except OwnCudaError as error:
        return str(error)
    return None
