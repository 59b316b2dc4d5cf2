"""How services tell one another for which tenant a call is. Envoy takes the header off whatever comes from outside."""

from __future__ import annotations

from typing import Final

TENANT_HEADER: Final = "x-mycel-tenant"
