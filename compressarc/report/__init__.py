"""Pictures, result files, the page of a batch, comparison with the published run."""
