"""Language models: weights, tokenizers, residual streams that can be read and edited."""
