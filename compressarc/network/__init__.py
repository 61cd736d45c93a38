"""The decoder: latents, layers, loss, and what the latents mean."""
