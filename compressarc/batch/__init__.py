"""Many puzzles on many devices: plans, buckets of shapes, engines, the folder."""
