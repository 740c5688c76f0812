"""The explorer's server: bundles in, JSON out. Loads neither torch, jax nor pandas."""
