"""The demo's self-contained page: ``python -m experiments.report --demo runs/demo``."""
