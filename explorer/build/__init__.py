"""``python -m explorer build``: a run, its activations and its probes in, a bundle out."""
