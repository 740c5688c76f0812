"""What a person did wrong, told in one line.

Every command line of the project runs inside :func:`run_cli`: a :class:`UserError` (or a full
disk) becomes one line on standard error and exit status 2; anything else is our own bug and keeps
its traceback.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable
from pathlib import Path

EXIT_USER_ERROR = 2


class UserError(Exception):
    """A mistake in what a user gave: the rule, the values and the remedy, in one line.

    Not a ValueError: tyro turns those, from a dataclass's ``__post_init__``, into a box of lines.
    """


def require_free_space(folder: Path, n_bytes: int) -> None:
    """Refuse to start writing ``n_bytes`` into ``folder`` when its disk has less than that free.

    Raises:
        UserError: naming both sizes.
    """
    import shutil

    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise UserError(
            f"{folder}: {n_bytes / 1e6:,.0f} MB are needed but the disk has {free / 1e6:,.0f} MB "
            "free; free some space and run again, or give another --out"
        )


def is_disk_full(error: BaseException) -> bool:
    """Whether ``error`` says that the disk (or a quota) is full, in any library's words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    text = str(error)
    return "No space left on device" in text or "Disk quota exceeded" in text


def run_cli(main: Callable[[], None]) -> None:
    """Run a command line: log to standard error, report user errors in one line with status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("absl").setLevel(logging.ERROR)
    for noisy in ("jax", "orbax", "httpx", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        main()
    except UserError as error:
        _fail(str(error))
    except PermissionError as error:
        _fail(f"{error.filename}: permission denied; check the path's owner and mode")
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if not is_disk_full(error):
            raise
        _fail("the disk is full: free some space and run the same command again, it resumes")
    except KeyboardInterrupt:
        print("interrupted: run the same command again, it resumes", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)
