"""HTML pages without anything from elsewhere: what those of all packages have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

SHARED = Path(__file__).parent / "templates"
"""``page.css``, for ``{% include "page.css" %}``."""


def page_templates(folder: Path, **options: Any) -> jinja2.Environment:
    """The templates of a folder and the shared ones: values are escaped, missing ones an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        **options,
    )
