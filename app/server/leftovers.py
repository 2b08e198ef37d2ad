"""A bound to what Gradio keeps for callers who never come back for their answers.

Each call through the queue has a list of messages that is dropped when its caller has read them;
whoever only asks leaves the answer in memory. See ``gradio.queueing.Queue``.
"""

from __future__ import annotations

import time
from typing import Any

KEEP_SECONDS = 120.0


class Leftovers:
    """Finds them by looking twice.

    Args:
        queue: Queue of the page.
        keep: Seconds that an answer may wait to be fetched.
    """

    def __init__(self, queue: Any, keep: float = KEEP_SECONDS):
        self.queue, self.keep = queue, keep
        self._seen: dict[str, tuple[int, float]] = {}

    def sweep(self, *, now: float | None = None) -> int:
        """Drop messages that nobody has read since ``keep`` seconds, but for calls that are still
        waiting or at work; returns the number of sessions dropped."""
        now = time.monotonic() if now is None else now
        queue = self.queue
        at_work = {event.session_hash for event in list(queue.event_ids_to_events.values())}
        seen: dict[str, tuple[int, float]] = {}
        dropped = 0
        for session, messages in list(queue.pending_messages_per_session.items()):
            size = messages.qsize()
            known = self._seen.get(session)
            since = known[1] if known is not None and known[0] == size else now
            if size and session not in at_work and now - since >= self.keep:
                queue.pending_messages_per_session.pop(session, None)
                dropped += 1
            else:
                seen[session] = (size, since)
        for session in list(queue.pending_event_ids_session):
            if session not in queue.pending_messages_per_session and session not in at_work:
                queue.pending_event_ids_session.pop(session, None)
        self._seen = seen
        return dropped
