"""Made-up data with known features."""
