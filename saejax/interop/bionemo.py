"""NVIDIA BioNeMo's sparse_autoencoders: see ``openai.py``, whose form it has."""

from saejax.interop.openai import read_bionemo as read

__all__ = ["read"]
