"""A parent of a user's own: ``--model tests.tiny_parent:load``. Two blocks of random weights."""

from tests.helpers import tiny_esm2


def load(*, weights=None, token_dropout=True, device=None):
    return tiny_esm2(name="tests.tiny_parent:load").to(device or "cpu")
