"""SAEs that others published, and ours in their formats: a small module for each format.

``read_published("interprot", path)`` gives an SAE's arrays in one form with what its file says
about itself; ``python -m saejax.convert import`` makes a run of it, ``export`` the way back.
Formats are named, never guessed from keys. docs/interop.md has the table.
"""

from saejax.interop.formats import EXPORT_FORMATS, IMPORT_FORMATS, read_published, write_published
from saejax.interop.published import Facts, Given, Published

__all__ = [
    "EXPORT_FORMATS",
    "IMPORT_FORMATS",
    "Facts",
    "Given",
    "Published",
    "read_published",
    "write_published",
]
