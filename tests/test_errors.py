"""What errors mean: whether memory was short, and whether a GPU can do no more."""

from __future__ import annotations

import pytest
import torch

from unet_med.errors import befalls_all, is_broken_gpu, is_out_of_memory

SHORT = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "MPS backend out of memory (MPS allocated: 17.83 GB, other allocations: 1.25 MB)",
    "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'",
    "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes",
    "std::bad_alloc",
    "could not create a primitive",
    "could not create a memory object",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "GET was unable to find an engine to execute this computation",
]


@pytest.mark.parametrize("text", SHORT)
def test_a_lack_of_memory_passes_and_is_no_broken_gpu(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(ValueError(text))
    assert not is_broken_gpu(RuntimeError(text))
    assert not befalls_all(RuntimeError(text))


def test_other_errors_are_no_lack_of_memory() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    for what in ("primitive", "memory"):  # of oneDNN where a device lacks an operation
        lacking = f"could not create a {what} descriptor for the deconvolution forward propagation"
        assert not is_out_of_memory(RuntimeError(lacking))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


def test_a_gpu_that_fails_while_room_is_made_is_broken() -> None:
    """cuBLAS finds no GPU after an illegal access either; the next call names that."""
    with pytest.raises(RuntimeError) as caught:  # noqa: PT012 - one error while another is handled
        try:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling")
        except RuntimeError:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")  # noqa: B904
    assert is_broken_gpu(caught.value)
