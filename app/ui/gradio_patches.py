"""A stop to the memory that each visitor's session would take with every event.

A handler that leaves an output as it is makes Gradio build a new component for the session, with an
id of its own, which the next event files under that id beside the one before: 50 kB with each look
for what is new, for as long as the session lasts (Gradio 6; measured with
``tests/benchmarks/load.py``). A component that replaces another must have the other's id.
"""

from __future__ import annotations

import functools
from typing import Any

from gradio.blocks import Block
from gradio.state_holder import SessionState


def keep_ids() -> None:
    """Give each component that a session puts in place of another the other's id."""
    plain = SessionState.__setitem__
    if hasattr(plain, "__wrapped__"):
        return

    @functools.wraps(plain)
    def set_item(state: SessionState, key: int, value: Any) -> None:
        if isinstance(value, Block):
            value._id = key
        plain(state, key, value)

    SessionState.__setitem__ = set_item  # type: ignore[method-assign]
