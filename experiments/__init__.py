"""The runs behind every claim; one file per experiment."""
