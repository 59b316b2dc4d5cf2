"""The connection to an Azure OpenAI resource. Messages and errors are those of OpenAI's API."""

from __future__ import annotations

import os
from typing import Final

import openai

from services.common.settings import SettingsError
from services.provider.adapter import Account
from services.provider.kinds.openai.client import OpenAIAdapter, http_client
from services.provider.standing import Standing

_VERSION: Final = "2024-10-21"
"""The API's version when none is named: the newest that is generally available and dated."""


def connect(account: Account) -> OpenAIAdapter:
    """Sets up an Azure OpenAI resource; nothing is sent yet.

    Raises:
        SettingsError: no endpoint is known.
    """
    endpoint = account.config.endpoint or os.environ.get("AZURE_OPENAI_ENDPOINT")
    if not endpoint:
        raise SettingsError("it has no endpoint, and AZURE_OPENAI_ENDPOINT is not set")
    if account.key is None:
        raise SettingsError("it needs a key")
    standing = Standing()
    client = openai.AsyncAzureOpenAI(
        api_key=account.key.get_secret_value(),
        azure_endpoint=endpoint,
        api_version=account.config.api_version or os.environ.get("OPENAI_API_VERSION") or _VERSION,
        max_retries=0,
        http_client=http_client(account, standing),
        default_headers=account.open_headers(),
    )
    # What the environment says of an account at OpenAI does not concern Azure.
    client.organization = client.project = None
    return OpenAIAdapter(account.name, client, standing, genuine=True)
