"""One puzzle solved: steps, votes, checkpoints, compiled programs."""
