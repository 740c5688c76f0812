"""Where a store lies: a folder, or a prefix on S3 or Google Cloud Storage, by one code path.

Everything in a store is read and written through TensorStore's key-value drivers, whose writes
appear whole or not at all (on a disk by writing aside and renaming).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import tensorstore as ts

from extract.errors import UserError, is_disk_full

_REMOTE = re.compile(r"^(s3|gs):/{1,2}(?=[^/])")

REMOTE_TIMEOUT_S = 60.0
"""How long an object store may take to answer about one small file, retries included."""


@dataclass(frozen=True)
class Location:
    """A folder of a store. ``Location.of("acts/")``, ``Location.of("s3://bucket/acts")``."""

    url: str
    """A path as it was given, or ``s3://bucket/prefix``, ``gs://bucket/prefix``."""

    @classmethod
    def of(cls, where: str | Path | Location) -> Location:
        """From words or a path; ``s3:/bucket`` too, which is what ``Path`` makes of ``s3://``."""
        if isinstance(where, Location):
            return where
        text = str(where)
        if _REMOTE.match(text):
            return cls(_REMOTE.sub(r"\1://", text).rstrip("/"))
        if re.match(r"^[a-z][a-z0-9+]+:/", text):
            raise UserError(f"{text}: unknown kind of place; give a folder, s3:// or gs://")
        return cls(str(Path(text)))

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine (or one that is mounted)."""
        return not _REMOTE.match(self.url)

    @property
    def path(self) -> Path:
        """The folder; for remote places a path that names it (:meth:`of` takes it back)."""
        return Path(self.url)

    def __truediv__(self, name: str) -> Location:
        """A place below this one."""
        return Location(f"{self.url}/{name}")

    def __str__(self) -> str:
        """As a person wrote it."""
        return self.url

    def spec(self) -> dict[str, Any]:
        """TensorStore's key-value spec. ``AWS_ENDPOINT_URL`` points S3 at a compatible server."""
        if self.is_local:
            return {"driver": "file", "path": f"{self.path.absolute()}/"}
        scheme, rest = self.url.split("://", 1)
        bucket, _, prefix = rest.partition("/")
        spec = {"driver": {"gs": "gcs"}.get(scheme, scheme), "bucket": bucket}
        if prefix:
            spec["path"] = f"{prefix}/"
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if scheme == "s3" and endpoint:
            spec["endpoint"] = endpoint
            spec["aws_region"] = os.environ.get("AWS_REGION", "us-east-1")
        return spec

    def read(self, key: str) -> bytes | None:
        """A whole file; None if there is none."""
        with self._one_line(key):
            result = self._store().read(key).result(self._timeout)
        return bytes(result.value) if result.state == "value" else None

    def write(self, key: str, data: bytes) -> None:
        """Write a file, whole or not at all, and durably."""
        with self._one_line(key):
            self._store().write(key, data).result(self._timeout)

    def names(self, folder: str = "") -> list[str]:
        """Names of the files below ``folder``, sorted; lock files left by a crash are none."""
        prefix = f"{folder}/" if folder else ""
        end = prefix[:-1] + chr(ord("/") + 1) if prefix else ""
        with self._one_line(folder):
            keys = self._store().list(ts.KvStore.KeyRange(prefix, end)).result(self._timeout)
        found = sorted(key.decode().removeprefix(prefix) for key in keys)
        return [name for name in found if not name.endswith(".__lock")]

    def delete(self, *keys: str) -> None:
        """Remove files; missing ones are no error."""
        for key in keys:
            with self._one_line(key):
                self._store().write(key, None).result(self._timeout)

    @contextmanager
    def _one_line(self, key: str) -> Iterator[None]:
        """TensorStore's errors as one line that names the place; a full disk as it is."""
        try:
            yield
        except TimeoutError as error:
            raise UserError(
                f"{self}: no answer within {REMOTE_TIMEOUT_S:.0f} s; check address, network "
                "and credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
            ) from error
        except (ValueError, OSError) as error:
            if is_disk_full(error):
                raise
            raise UserError(
                f"{self}/{key}: can't be reached ({str(error)[:200]}); check the path and its "
                "permissions"
            ) from error

    @property
    def _timeout(self) -> float | None:
        return None if self.is_local else REMOTE_TIMEOUT_S

    def _store(self) -> ts.KvStore:
        with self._one_line(""):
            return _open(json.dumps(self.spec()))


@lru_cache(maxsize=64)
def _open(spec: str) -> ts.KvStore:
    return ts.KvStore.open(json.loads(spec)).result()
