"""Recurrent networks over numbers and over symbols, and their training."""
