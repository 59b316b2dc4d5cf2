"""The llama.cpp backend's parts; `model.py` beside this package is what Triton loads."""
