"""Tables, result files and figures."""
