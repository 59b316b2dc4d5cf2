"""Ollama through the official SDK."""

from services.provider.kinds.ollama.client import OllamaAdapter, connect

__all__ = ["OllamaAdapter", "connect"]
