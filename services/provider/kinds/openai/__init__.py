"""OpenAI, and every server that speaks its chat completions API, through the official SDK."""

from services.provider.kinds.openai.client import OpenAIAdapter, connect

__all__ = ["OpenAIAdapter", "connect"]
