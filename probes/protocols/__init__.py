"""How latents are chosen and scored, one file for each protocol, and their controls."""
