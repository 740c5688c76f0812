"""Every latent against every concept at once: fits, ranks, scores and tests."""
