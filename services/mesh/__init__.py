"""`mycel`: the supervisor that runs the whole mesh on one machine, and the command line."""
