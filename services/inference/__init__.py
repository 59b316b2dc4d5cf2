"""The mesh's front of NVIDIA Triton: CompletionService for the models on one's own machines."""
