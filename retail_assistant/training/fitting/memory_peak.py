"""The most memory that this process has held since a moment."""

import resource
from contextlib import suppress
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
_PEAK = "VmHWM:"


def begin_peak() -> None:
    """From here on count anew, main memory and GPU; where the kernel cannot, from its start on."""
    with suppress(OSError):
        _CLEAR.write_text(_RESET_PEAK)
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_mib() -> int:
    """Main memory at its most, in MiB."""
    try:
        lines = _STATUS.read_text().splitlines()
        kib = next(int(line.split()[1]) for line in lines if line.startswith(_PEAK))
    except (OSError, StopIteration):
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib // 1024


def gpu_peak_mib() -> int | None:
    """GPU memory that torch has held at its most, in MiB; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated() // 2**20)
