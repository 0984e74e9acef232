"""What runs a model: accelerators by name, with what their makers say of them, and the processor of this machine."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from lm_eval_sts.errors import SettingsError, did_you_mean

GIGA: Final = 10**9
_DATASHEET: Final = "NVIDIA data sheet, dense tensor-core figures"


@dataclass(frozen=True)
class Device:
    """A device and its peaks.

    Attributes:
        name: What it is called by.
        memory: Bytes; None: as much as the machine has.
        half: Floating-point operations a second in bfloat16, dense.
        single: The same in float32, without TF32, as PyTorch computes by default.
        bandwidth: Bytes of memory a second.
        source: Where the figures are from.
    """

    name: str
    memory: int | None
    half: float
    single: float
    bandwidth: float
    source: str

    @property
    def is_cpu(self) -> bool:
        """Whether it is a processor."""
        return self.name == "cpu"

    def rate(self, item: int) -> float:
        """Operations a second of numbers of so many bytes."""
        return self.half if item < 4 else self.single


def _gpu(name: str, gigabytes: int, half: float, single: float, bandwidth: float, source: str = _DATASHEET) -> Device:
    return Device(name, gigabytes * GIGA, half * 1e12, single * 1e12, bandwidth * 1e12, source)


_GPUS: Final = (
    _gpu("b200", 180, 2250, 75, 7.7, "NVIDIA HGX B200 data sheet, an eighth of its eight GPUs, dense"),
    _gpu("h200", 141, 989, 67, 4.8),
    _gpu("h100", 80, 989, 67, 3.35, "NVIDIA data sheet of the SXM5 board, dense tensor-core figures"),
    _gpu("h100-pcie", 80, 756, 51, 2.0),
    _gpu("a100", 80, 312, 19.5, 2.039, "NVIDIA data sheet of the 80 GB SXM4 board, dense tensor-core figures"),
    _gpu("a100-40gb", 40, 312, 19.5, 1.555),
    _gpu("l40s", 48, 362, 91.6, 0.864),
    _gpu("l4", 24, 121, 30.3, 0.3),
    _gpu("a10", 24, 125, 31.2, 0.6),
    _gpu("rtx-4090", 24, 165, 82.6, 1.008, "NVIDIA Ada architecture white paper, dense, float32 accumulation"),
    _gpu("rtx-3090", 24, 71, 35.6, 0.936, "NVIDIA Ampere GA102 white paper, dense, float32 accumulation"),
)

CPU: Final = Device("cpu", None, 45 * GIGA, 45 * GIGA, 8 * GIGA, "one thread of an AMD EPYC server, measured")
"""A processor where nothing was measured on this machine."""

DEVICES: Final = {device.name: device for device in (*_GPUS, CPU)}
"""Name to device."""

_OTHER_NAMES: Final = {"4090": "rtx-4090", "3090": "rtx-3090", "a10g": "a10", "h100-sxm": "h100", "a100-80gb": "a100"}


def find_device(name: str) -> Device:
    """A device by its name, however it is written (``H100``, ``RTX 4090``, ``NVIDIA A100-SXM4-80GB``).

    Raises:
        SettingsError: It is not known; names those that are.
    """
    plain = re.sub(r"[\s_]+", "-", name.strip().lower())
    plain = re.sub(r"^(nvidia|geforce|tesla)-", "", re.sub(r"^(nvidia|geforce|tesla)-", "", plain))
    plain = re.sub(r"-(sxm\d?|hbm\de?|80gb-hbm3)", "", plain)
    plain = _OTHER_NAMES.get(plain, plain)
    if plain not in DEVICES:
        hint = did_you_mean(plain, [*DEVICES, *_OTHER_NAMES])
        raise SettingsError(f"device {name!r} is not known: {hint}known: {', '.join(DEVICES)}")
    return DEVICES[plain]


def calibrated_cpu(clock: Callable[[], float] = time.perf_counter) -> Device:
    """The processor of this machine with as many threads as PyTorch uses, timed for a few seconds.

    Args:
        clock: Seconds; processor time where other work on the machine is not to count.
    """
    import torch

    def best(work: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            start = clock()
            work()
            times.append(clock() - start)
        return min(times)

    side = 2048
    a, b = torch.randn(side, side), torch.randn(side, side)
    big, other = torch.ones(2**25), torch.ones(2**25)
    rate = 2 * side**3 / best(lambda: torch.mm(a, b))
    bandwidth = 2 * big.numel() * big.element_size() / best(lambda: other.copy_(big))
    threads = torch.get_num_threads()
    return replace(
        CPU, half=rate, single=rate, bandwidth=bandwidth, source=f"this machine, {threads} threads, timed just now"
    )


def device_here() -> Device:
    """The accelerator of this machine, or its processor; peaks are 0 where they are not known."""
    import torch

    if not torch.cuda.is_available():
        return CPU
    name = torch.cuda.get_device_name()
    try:
        return find_device(name)
    except SettingsError:
        memory = torch.cuda.get_device_properties(0).total_memory
        return Device(name, memory, 0.0, 0.0, 0.0, "not known")
