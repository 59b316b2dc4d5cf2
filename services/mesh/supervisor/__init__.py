"""Runs every part of the mesh on one machine: starts, watches, restarts and stops them."""
