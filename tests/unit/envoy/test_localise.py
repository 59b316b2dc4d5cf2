"""The configuration for one machine is the committed one with other addresses, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.mesh.envoy import (
    DEPLOY_FOLDER,
    MESH_SERVICES,
    EnvoyError,
    HostPort,
    LocalAddresses,
    envoy_command,
    find_envoy,
    load_config,
    localise,
    write_config,
)


def addresses(**changes: Any) -> LocalAddresses:
    run = Path("/run/mycel")
    values: dict[str, Any] = {
        "ingress": HostPort("127.0.0.1", 8080),
        "mesh": run / "mesh.sock",
        "admin": run / "admin.sock",
        "services": {name: run / f"{name}.sock" for name in MESH_SERVICES},
        "otlp": HostPort("127.0.0.1", 4317),
    }
    return LocalAddresses(**(values | changes))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def without_addresses(config: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in both forms: all but addresses, files, and how names are resolved."""
    rest = copy.deepcopy(config)
    del rest["admin"]["address"]
    for listener in rest["static_resources"]["listeners"]:
        del listener["address"]
        filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
        for http_filter in filters:
            http_filter["typed_config"].pop("proto_descriptor", None)
            http_filter["typed_config"].pop("default_source_code", None)
    for cluster in rest["static_resources"]["clusters"]:
        del cluster["load_assignment"]["endpoints"]
        del cluster["type"]
        cluster.pop("dns_lookup_family", None)
    return rest


def test_only_addresses_differ() -> None:
    config = load_config()
    before = copy.deepcopy(config)
    local = localise(config, addresses())
    assert config == before, "the configuration passed in is left alone"
    assert without_addresses(local) == without_addresses(config)


def test_every_address_is_local() -> None:
    local = localise(load_config(), addresses())
    listeners = {item["name"]: item["address"] for item in local["static_resources"]["listeners"]}
    assert listeners["ingress"] == {"socket_address": {"address": "127.0.0.1", "port_value": 8080}}
    assert listeners["mesh"]["pipe"] == {"path": "/run/mycel/mesh.sock", "mode": 0o600}
    assert local["admin"]["address"]["pipe"] == {"path": "/run/mycel/admin.sock", "mode": 0o600}
    clusters = {item["name"]: item for item in local["static_resources"]["clusters"]}
    assert set(clusters) == {*MESH_SERVICES, "otlp"}
    for name in MESH_SERVICES:
        assert clusters[name]["type"] == "STATIC"
        (endpoint,) = clusters[name]["load_assignment"]["endpoints"][0]["lb_endpoints"]
        assert endpoint["endpoint"]["address"]["pipe"]["path"] == f"/run/mycel/{name}.sock"
    (endpoint,) = clusters["otlp"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 4317}


def test_files_are_those_beside_the_configuration() -> None:
    local = localise(load_config(), addresses())
    assert not [text for text in strings(local) if "/etc/envoy" in text]
    files = [Path(text) for text in strings(local) if text.startswith(f"{DEPLOY_FOLDER}/")]
    assert sorted(file.name for file in files) == ["mycel.desc.pb", "openai_errors.lua"]
    assert all(file.is_file() for file in files)


def test_without_a_collector_nothing_is_traced() -> None:
    local = localise(load_config(), addresses(otlp=None))
    assert "otlp" not in {cluster["name"] for cluster in local["static_resources"]["clusters"]}
    for listener in local["static_resources"]["listeners"]:
        assert "tracing" not in listener["filter_chains"][0]["filters"][0]["typed_config"]


def test_a_service_without_an_address_is_refused() -> None:
    services = {name: Path(name) for name in MESH_SERVICES if name != "cache"}
    with pytest.raises(EnvoyError, match="cache"):
        localise(load_config(), addresses(services=services))


def test_a_socket_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(EnvoyError, match="107 bytes"):
        localise(load_config(), addresses(mesh=Path("/") / ("é" * 54)))
    assert localise(load_config(), addresses(mesh=Path("/") / ("é" * 53)))


def test_written_and_read_again(tmp_path: Path) -> None:
    local = localise(load_config(), addresses())
    write_config(local, tmp_path / "envoy.yaml")
    assert yaml.safe_load((tmp_path / "envoy.yaml").read_text()) == local
    assert [path.name for path in tmp_path.iterdir()] == ["envoy.yaml"], "no draft is left"


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "\x00"])
def test_a_configuration_that_cannot_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "envoy.yaml").write_text(content)
    with pytest.raises(EnvoyError, match=r"envoy\.yaml"):
        load_config(tmp_path)


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvoyError, match=r"envoy\.yaml"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", HostPort("127.0.0.1", 8080)),
        ("[::1]:1", HostPort("::1", 1)),
        ("jaeger:0", HostPort("jaeger", 0)),
    ],
)
def test_addresses_are_read_and_written(text: str, address: HostPort) -> None:
    assert HostPort.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "8080", ":8080", "host:", "host:http", "host:65536", "host:-1", "host:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(EnvoyError, match="HOST:PORT"):
        HostPort.parse(text)


def test_the_command_runs_beside_other_envoys() -> None:
    command = envoy_command(Path("/bin/envoy"), Path("/run/envoy.yaml"), log_path=Path("/run/envoy.log"))
    assert command[0] == "/bin/envoy"
    assert "--disable-hot-restart" in command
    assert command[command.index("--config-path") + 1] == "/run/envoy.yaml"
    assert command[command.index("--log-path") + 1] == "/run/envoy.log"


def test_an_envoy_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvoyError, match="make setup") as raised:
        find_envoy()
    assert "\n" not in str(raised.value)
