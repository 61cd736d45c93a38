"""Whether a program is right: verification on fresh sequences, and the choice between candidates."""
