"""Groups of an autoencoder's latents that span multi-dimensional features."""
