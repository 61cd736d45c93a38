"""Figures and the gallery page."""
