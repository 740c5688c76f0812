"""``python -m extract``: FASTA in, activation store out."""

import tyro

from extract.errors import run_cli
from extract.fasta import read_fasta


def main() -> None:
    """Parse the flags, read the proteins, load the parent, fill the store."""
    from extract.pipeline import ExtractConfig, extract
    from extract.weights import load_esm2, model_shape

    config = tyro.cli(ExtractConfig, prog="python -m extract")
    model_shape(config.model)
    proteins, report = read_fasta(
        config.fasta, max_residues=config.max_residues, too_long=config.too_long
    )
    model = load_esm2(config.model, weights=config.weights, token_dropout=config.token_dropout)
    extract(config, model, proteins, report)


if __name__ == "__main__":
    run_cli(main)
