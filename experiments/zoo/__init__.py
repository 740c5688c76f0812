"""A set of SAEs of one parent: a grid of sites, widths and k, trained, evaluated and packed.

Command (ESM2-8M; a step that is done is not done again, and a killed one goes on)::

    python -m extract --fasta uniprot_20k.fasta.gz --sample all --dtype bfloat16
        --site block1 block2 block3 block4 block5 block6 --out acts/20k
    python -m experiments.zoo --preset esm2-8m --activations acts/20k --out runs/zoo
    python -m experiments.zoo --preset esm2-8m --activations acts/20k --out runs/zoo
        --upload owner/name --dry-run

``--launcher slurm`` gives every SAE to one task of a job array, through submitit; the same command
without it then makes the table. See ``docs/zoo.md``.
"""
