"""Generators of networks: latents with a price, decoders, and drawing a network from them."""
