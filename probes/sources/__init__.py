"""Annotation, structure and cluster files, read into concepts."""
