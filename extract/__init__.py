"""From protein sequences to activations of a protein language model, in TensorStore.

Import the modules directly: ``extract.store`` works without torch, ``extract.plm`` needs it.
``extract.stream(...)`` gives activations without a store.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """``stream``, which needs torch, is loaded when it is first asked for."""
    if name == "stream":
        from extract.streaming import stream

        return stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
