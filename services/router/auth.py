"""Turns an API key into a tenant."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.config import TenantConfig
from services.common.errors import MycelError

DEVELOPMENT_KEY: Final = "mycel-dev"
"""Accepted on loopback while no tenant is configured."""
DEVELOPMENT_TENANT: Final = "dev"

_FIELD: Final = "authorization"


class Tenants:
    """The tenants of a configuration, by the hash of their keys."""

    def __init__(self, tenants: Mapping[str, TenantConfig], *, development: bool) -> None:
        """Reads the tenants.

        Args:
            tenants: the configured ones.
            development: whether the development key is accepted when there are none.
        """
        self._tenant_of_hash = {key: name for name, tenant in tenants.items() for key in tenant.keys}
        if development and not tenants:
            self._tenant_of_hash[_hash(DEVELOPMENT_KEY)] = DEVELOPMENT_TENANT

    def authenticate(self, authorization: str | None) -> str:
        """Gives the tenant of an `authorization` header.

        Raises:
            MycelError: UNAUTHENTICATED, when the header is missing, is not a bearer token, or nobody has the key.
        """
        if not authorization:
            raise _refused("no API key: send `authorization: Bearer KEY`")
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _refused("the header is not of the form `Bearer KEY`")
        wanted = _hash(key.strip())
        for known, tenant in self._tenant_of_hash.items():
            if hmac.compare_digest(known, wanted):
                return tenant
        raise _refused("this API key belongs to no tenant")


def _hash(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _refused(message: str) -> MycelError:
    return MycelError(ErrorReason.ERROR_REASON_UNAUTHENTICATED, message, field=_FIELD)
