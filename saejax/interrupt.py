"""SIGTERM and Ctrl-C while a run goes on: finish the step, save, and leave."""

from __future__ import annotations

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interruption:
    """Within the ``with`` block SIGTERM, and the first Ctrl-C, only leave a note.

    Several processes agree on the step to stop at; JAX's coordination service catches their
    SIGTERM.
    """

    def __init__(self) -> None:
        """Not told to stop yet."""
        self.told_to_stop = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            wanted = [signal.SIGINT]
            if jax.process_count() == 1:
                wanted.append(signal.SIGTERM)
            self._before = {s: signal.signal(s, self._note) for s in wanted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.told_to_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.told_to_stop = True

    def at(self, step: int) -> bool:
        """Whether to save and leave after this step; the same answer in every process."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.told_to_stop = True
        return self.told_to_stop
