"""How much memory this process has held, as Linux counts it."""

from __future__ import annotations

import threading
from pathlib import Path


class Memory:
    """Largest anonymous memory of this process, sampled ten times a second."""

    def __init__(self) -> None:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.look()

    def look(self) -> None:
        self.peak = max(self.peak, status("RssAnon"))

    def stop(self) -> dict[str, int]:
        self._done.set()
        self._thread.join()
        self.look()
        return {"peak_anonymous_bytes": self.peak, "peak_resident_bytes": status("VmHWM")}


def status(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))
