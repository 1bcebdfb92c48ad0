"""Devices by name: how much memory they have and how fast they are."""

from __future__ import annotations

import os
import platform
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from tuner.errors import UserError, nearest

# Memory in GiB, TFLOP/s (dense, tensor cores, bf16; fp16 on T4 and V100) and GB/s, from the
# makers' data sheets.
GPUS = {
    "T4": (16, 65, 320),
    "V100-16GB": (16, 125, 900),
    "V100-32GB": (32, 125, 900),
    "RTX3060": (12, 25, 360),
    "RTX3090": (24, 71, 936),
    "RTX4090": (24, 165, 1008),
    "A10G": (24, 70, 600),
    "L4": (24, 121, 300),
    "L40S": (48, 362, 864),
    "A100-40GB": (40, 312, 1555),
    "A100-80GB": (80, 312, 2039),
    "H100": (80, 989, 3350),
    "H200": (141, 989, 4800),
}
USABLE = 0.92  # of the size on the box: error correction and fragmentation take the rest
CONTEXT = 512 * 2**20  # CUDA's own memory on a GPU, which PyTorch does not count; an assumption
EFFICIENCY = 0.5  # share of both data sheet figures that training reaches; an assumption


@dataclass(frozen=True)
class Device:
    """What a plan needs to know of a device.

    Attributes:
        name: as it was asked for.
        gpu: whether it is one.
        memory: bytes that a process can have.
        program: bytes that are held whatever is trained: Python and libraries, or CUDA's context.
        flops: floating point operations a second in matrix products; null where unknown.
        bandwidth: bytes a second that other ops read and write; null where unknown.
        basis: what the two speeds rest on.
    """

    name: str
    gpu: bool
    memory: int
    program: int
    flops: float | None = None
    bandwidth: float | None = None
    basis: str = ""


def find_device(name: str | None, dtype: torch.dtype) -> Device:
    """The device of that name.

    Args:
        name: `cpu`, a name of `GPUS`, or a size such as `12GB`; this machine's GPU, else its
            CPU, when null.
        dtype: type of the arithmetic.

    Raises:
        UserError: there is no such name.
    """
    if name is None and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device(properties.name, True, properties.total_memory, CONTEXT)
    if name is None or name.lower() == "cpu":
        return _this_cpu(dtype)
    known = {key.lower(): key for key in GPUS}
    if key := known.get(name.lower().replace(" ", "")):
        size, tera, giga = GPUS[key]
        half = dtype in (torch.bfloat16, torch.float16)
        rate = tera * 1e12 * EFFICIENCY if half else None
        return Device(
            key,
            True,
            int(size * USABLE * 2**30),
            CONTEXT,
            rate,
            giga * 1e9 * EFFICIENCY if half else None,
            f"{EFFICIENCY:.0%} of the data sheet's {tera} TFLOP/s and {giga:,} GB/s",
        )
    if size := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)GI?B", name.upper()):
        return Device(name, True, int(float(size[1]) * USABLE * 2**30), CONTEXT)
    raise UserError(
        f"--device: '{name}' is not known; a size such as 12GB works too. "
        + nearest(name, [*GPUS, "cpu"])
    )


def _this_cpu(dtype: torch.dtype) -> Device:
    """This machine: what is free of its memory, and speeds from two short probes."""
    own = psutil.Process().memory_info().rss
    side = torch.ones(1024, 1024, dtype=dtype)
    product = _seconds(lambda: torch.mm(side, side))
    block = torch.ones(2**24)
    flops = 2 * 1024**3 / product
    bandwidth = 2 * block.nbytes / _seconds(lambda: block.add_(1))
    return Device(
        "cpu",
        False,
        min(psutil.virtual_memory().available + own, _limit()),
        own,
        flops,
        bandwidth,
        f"a probe just now: {flops / 1e9:,.0f} GFLOP/s, {bandwidth / 1e9:,.0f} GB/s",
    )


def _seconds(work: Callable[[], object]) -> float:
    """The fastest of several calls, so that other programs and the first call count little."""
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _limit() -> int:
    """Bytes that the system lets this process have; more than any machine's where it sets none."""
    file = Path("/sys/fs/cgroup/memory.max")  # a container's
    text = file.read_text().strip() if file.is_file() else "max"
    asked = resource.getrlimit(resource.RLIMIT_AS)[0]
    limits = [2**62 if text == "max" else int(text), 2**62 if asked < 0 else asked]
    return min(limits)


def keeps_freed_memory() -> bool:
    """Whether the C library holds on to large blocks; either variable makes it give them back."""
    set_free = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_"} & os.environ.keys()
    return platform.libc_ver()[0] == "glibc" and not set_free
