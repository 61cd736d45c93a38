"""Sparse autoencoders: model, training, metrics, files."""
