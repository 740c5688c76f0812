"""Speed and accuracy of extraction, measured; ``docs/benchmarks.md`` has the results."""
