"""The demo: a mesh on a state of its own, asked over every door, with every answer checked."""
