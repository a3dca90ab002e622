"""Device and precision, for training and for embedding."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

from cell_lm.config import Precision
from cell_lm.errors import ConfigError

_FORCE_CPU = "ACCELERATE_USE_CPU"


def cpu_is_forced() -> bool:
    """Whether the environment forces the CPU (``ACCELERATE_USE_CPU=true``), as accelerate reads it."""
    return os.environ.get(_FORCE_CPU, "").lower() in ("1", "true", "yes")


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device to compute on.

    Parameters
    ----------
    name
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None or ``"auto"``: CUDA if there is a device, else the CPU.
        ``ACCELERATE_USE_CPU=true`` makes ``"auto"`` the CPU.

    Raises
    ------
    ConfigError
        There is no such device.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and not cpu_is_forced() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"'{name}' is no device", where="device", fix="Choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"'{name}' is not supported", where="device", fix="Choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"'{name}' is requested, and PyTorch finds {torch.cuda.device_count()} CUDA devices"
        raise ConfigError(found, where="device", fix="Choose cpu, or install PyTorch for CUDA")
    return device


def autocast(device: torch.device, precision: Precision) -> Callable[[], AbstractContextManager[object]]:
    """Return a function that makes the autocast context of a precision."""
    return partial(torch.autocast, device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext
