"""The live half of the explorer: a person's own sequences, clamps, labels and comparisons."""
