"""What the parts' processes are given of the caller's environment: what they need, and no one else's secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

_PASSED: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"}
    | {"LD_LIBRARY_PATH", "XDG_CACHE_HOME", "VIRTUAL_ENV"}
    | {"OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED"}
)
_PASSED_PREFIXES: Final = ("LC_", "MYCEL_", "PYTHON", "GRPC_", "OMP_", "CUDA_", "NVIDIA_", "MALLOC_", "COVERAGE_")
STORE_TOKEN: Final = "MYCEL_STORE_TOKEN"  # noqa: S105 - its name
"""The token of the cache's Milvus server."""
_SECRETS: Final = frozenset({"MYCEL_API_KEY", "MYCEL_API_KEY_FILE", STORE_TOKEN, f"{STORE_TOKEN}_FILE"})
"""Mycel's own: only a part that is granted one gets it. The API key is the caller's, for `mycel ask`."""

_OUTBOUND: Final = frozenset(["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
_LOOPBACK: Final = "127.0.0.1,localhost"


def part_environment(
    caller: Mapping[str, str], own: Mapping[str, str], secrets: Collection[str] = ()
) -> dict[str, str]:
    """Gives the environment of a part that calls nothing outside the mesh.

    Args:
        caller: the environment of `mycel up`.
        own: what is set for this part, over the rest.
        secrets: variables that it is granted; `NAME_FILE`, which names a file with the value, comes along.
    """
    granted = {*secrets, *(f"{name}_FILE" for name in secrets)}
    passed = {
        name: value
        for name, value in caller.items()
        if name in granted or ((name in _PASSED or name.startswith(_PASSED_PREFIXES)) and name not in _SECRETS)
    }
    return passed | dict(own)


def outbound_environment(caller: Mapping[str, str], own: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """Gives the environment of a part that calls others: with certificates and proxies besides.

    Args:
        caller: the environment of `mycel up`.
        own: what is set for this part, over the rest.
        secrets: variables that it is granted, as for `part_environment`.
    """
    environment = part_environment(caller, own, secrets)
    environment |= {name: caller[name] for name in _OUTBOUND if name in caller}
    proxies = {name: value for name, value in caller.items() if name.lower() in _PROXIES}
    if proxies:
        without = caller.get("no_proxy") or caller.get("NO_PROXY")
        environment |= proxies
        environment["no_proxy"] = environment["NO_PROXY"] = f"{without},{_LOOPBACK}" if without else _LOOPBACK
    return environment
