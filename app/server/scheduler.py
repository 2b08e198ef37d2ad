"""The thread that moves the waiting list: not a visitor's look, but the server does."""

from __future__ import annotations

import logging
import threading

from app.server.jobs import JobQueue

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


def start(queue: JobQueue, seconds: float = LOOK_SECONDS) -> threading.Event:
    """Start what waits, end what is over its time and reap what has ended, for as long as the
    server runs; returns the event that ends it."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            try:
                queue.dispatch()
            except Exception:
                log.exception("a look at the waiting list failed; the next one follows")

    threading.Thread(target=work, name="scheduler", daemon=True).start()
    return ended
