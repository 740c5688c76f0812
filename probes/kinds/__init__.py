"""What kind of latent is it? Patterns of firing, logos, contacts."""
