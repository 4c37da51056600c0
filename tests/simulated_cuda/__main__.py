"""Run a module on the simulated device: `python -m simulated_cuda MODULE ARGUMENTS`."""

from __future__ import annotations

import runpy
import sys

from simulated_cuda import OwnCudaError, switch_on

if __name__ == "__main__":
    try:
        switch_on()
    except OwnCudaError as error:
        print(f"nothing is simulated: {error}")
        sys.exit()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
