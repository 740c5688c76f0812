"""A steering result as one HTML page without anything from elsewhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extract.files import write_atomically
from extract.pages import page_templates


def write_page(
    out: Path, template: str, record: Mapping[str, Any], images: Mapping[str, bytes]
) -> Path:
    """Write ``page.html``.

    Args:
        out: the folder, which there is.
        template: of this package's ``templates``.
        record: what ``steering.json`` says.
        images: PNG files by name.
    """
    environment = page_templates(Path(__file__).parent / "templates")
    environment.filters["number"] = number
    environment.filters["signed"] = signed
    environment.filters["percent"] = percent
    pictures = {name: base64.b64encode(image).decode() for name, image in images.items()}
    html = environment.get_template(template).render(record=record, images=pictures)
    path = out / "page.html"
    write_atomically(path, lambda f: f.write(html.encode()))
    return path


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: Any, digits: int = 3) -> str:
    """A number to so many significant digits, or a dash where there is none."""
    return "–" if _missing(value) else f"{value:.{digits}g}"


def signed(value: Any, digits: int = 2) -> str:
    """A change, with its sign."""
    return "–" if _missing(value) else f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def percent(value: Any, digits: int = 0) -> str:
    """A share in percent."""
    return "–" if _missing(value) else f"{100 * value:.{digits}f} %"
