"""How often somebody may do something: a bucket of turns that fills again with time."""

from __future__ import annotations

import collections
import ipaddress
import threading
import time

KEYS = 10_000
"""Buckets kept; the one unused longest goes. A forgotten one is full again."""


class Pace:
    """A bucket of turns for each key.

    Args:
        per_second: Turns that come back in a second.
        burst: Turns in a full bucket.
    """

    def __init__(self, per_second: float, burst: float):
        self.per_second, self.burst = per_second, burst
        self._left: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, turns: float = 1.0, *, now: float | None = None) -> float:
        """Take a turn or more.

        Args:
            key: Who takes it.
            turns: How many; of more than the bucket holds, as many as it holds.
            now: Monotonic time in seconds.

        Returns:
            0 if they were there, else the seconds until they are.
        """
        now = time.monotonic() if now is None else now
        turns = min(turns, self.burst)
        with self._lock:
            left, then = self._left.pop(key, (self.burst, now))
            left = min(self.burst, left + (now - then) * self.per_second)
            taken = left >= turns
            self._left[key] = (left - turns if taken else left, now)
            if len(self._left) > KEYS:
                self._left.popitem(last=False)
        return 0.0 if taken else (turns - left) / self.per_second


def network(address: str) -> str:
    """What is counted as one place: an IPv4 address, or the 64 bits of an IPv6 address that a
    provider gives to one customer."""
    try:
        found = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
