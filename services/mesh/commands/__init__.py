"""The commands of `mycel`, one module each: `add` declares the arguments, `run` does it and gives the exit code."""
