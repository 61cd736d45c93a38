"""One-hidden-layer and deeper networks: evaluation, files, canonical form."""
