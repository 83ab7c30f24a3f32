"""Loads that a probe turns on and off: every processor busy, or matrix products on a device through torch."""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from typing import Any

from ..core.errors import MissingExtraError


class CpuLoad:
    """Threads that hash while on; hashing holds no interpreter lock, so each fills a processor."""

    def __init__(self, threads: int | None = None) -> None:
        count = threads or max(1, (os.cpu_count() or 2) - 1)
        self.name = f"{count} busy threads"
        self._go, self._end = threading.Event(), False
        self._threads = [threading.Thread(target=self._work, name="wattline-load", daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        block = bytes(1 << 16)
        while not self._end:
            if self._go.wait():
                hashlib.sha256(block).digest()

    def on(self) -> None:
        """Begin."""
        self._go.set()

    def off(self) -> None:
        """Stop within a tenth of a millisecond or so."""
        self._go.clear()

    def close(self) -> None:
        """End the threads."""
        self._end = True
        self._go.set()
        for thread in self._threads:
            thread.join(timeout=1.0)


class TorchLoad:
    """Matrix products on every visible device, queued by a thread a few ms at a time."""

    def __init__(self, size: int = 4096) -> None:
        try:
            torch: Any = importlib.import_module("torch")
        except ImportError:
            raise MissingExtraError(
                "a known load on a GPU needs torch; pip install torch, or probe with --load cpu"
            ) from None
        self._torch = torch
        count = int(torch.cuda.device_count())
        if count == 0:
            raise MissingExtraError("torch finds no GPU to put a load on; probe with --load cpu")
        self.name = f"products of {size} x {size} in bf16 on {count} devices"
        self._pairs = [
            torch.randn(size, size, device=f"cuda:{k}", dtype=torch.bfloat16).mul_(size**-0.5) for k in range(count)
        ]
        self._go, self._end = threading.Event(), False
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wattline-load", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._end:
            self._idle.set()
            self._go.wait()
            self._idle.clear()
            while self._go.is_set() and not self._end:
                for matrix in self._pairs:
                    matrix @ matrix
                for k in range(len(self._pairs)):
                    self._torch.cuda.synchronize(k)

    def on(self) -> None:
        """Begin."""
        self._go.set()

    def off(self) -> None:
        """Stop, and wait for the product under way."""
        self._go.clear()
        self._idle.wait(timeout=1.0)

    def close(self) -> None:
        """End the thread."""
        self._end = True
        self._go.set()
        self._thread.join(timeout=1.0)
