"""Anthropic's Messages API through the official SDK."""

from services.provider.kinds.anthropic.client import AnthropicAdapter, connect

__all__ = ["AnthropicAdapter", "connect"]
