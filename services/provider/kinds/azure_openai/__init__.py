"""Azure OpenAI through OpenAI's official SDK. A model's name is that of its deployment."""

from services.provider.kinds.azure_openai.client import connect

__all__ = ["connect"]
