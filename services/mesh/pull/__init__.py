"""`mycel models pull`: brings a model's file here, whole or not at all."""
