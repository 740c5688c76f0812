"""Edit SAE latents in a running protein language model, and measure what its predictions do.

Import the modules directly: ``torch_sae`` (the SAE's inference half), ``hooks`` (the edit),
``effects`` (what changed), ``controls`` (what a random latent would have changed), ``splice`` and
``fidelity`` (what predictions lose when the reconstruction replaces the activations).
"""
