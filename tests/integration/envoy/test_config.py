"""Envoy itself accepts both forms of the configuration, and a wrong one is one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.mesh.envoy import (
    DEPLOY_FOLDER,
    MESH_SERVICES,
    EnvoyError,
    HostPort,
    LocalAddresses,
    load_config,
    localise,
    validate,
    write_config,
)
from services.mesh.envoy_admin import EnvoyAdmin
from tests.integration.envoy.door import envoy_binary, running_envoy


def test_the_form_for_containers_is_valid(tmp_path: Path) -> None:
    """As it is committed; only the folder that a container mounts is another."""
    text = (DEPLOY_FOLDER / "envoy.yaml").read_text().replace("/etc/envoy", str(DEPLOY_FOLDER))
    (tmp_path / "envoy.yaml").write_text(text)
    validate(envoy_binary(), tmp_path / "envoy.yaml")


@pytest.mark.parametrize("otlp", [None, HostPort("127.0.0.1", 4317), HostPort("collector.example", 4317)])
def test_the_form_for_one_machine_is_valid(tmp_path: Path, otlp: HostPort | None) -> None:
    run = Path("/run")
    services = {name: run / name for name in MESH_SERVICES}
    addresses = LocalAddresses(HostPort("127.0.0.1", 8080), run / "mesh", run / "admin", services, otlp)
    write_config(localise(load_config(), addresses), tmp_path / "envoy.yaml")
    validate(envoy_binary(), tmp_path / "envoy.yaml")


def test_a_wrong_configuration_is_refused_with_envoys_reason(tmp_path: Path) -> None:
    config = load_config()
    config["static_resources"]["listeners"][0]["no_such_field"] = 1
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(EnvoyError, match="no_such_field") as raised:
        validate(envoy_binary(), tmp_path / "envoy.yaml")
    assert "\n" not in str(raised.value)


def test_a_binary_that_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(EnvoyError, match="cannot be run"):
        validate(tmp_path / "nothing", tmp_path / "envoy.yaml")


async def test_the_admin_interface_of_a_running_envoy() -> None:
    async with running_envoy() as door:
        assert door.admin.ready()
        assert door.admin.listener_port("ingress") == door.port
        assert door.admin.healthy_services() == dict.fromkeys(MESH_SERVICES, False)
        with pytest.raises(EnvoyError, match="mesh"):
            door.admin.listener_port("mesh")  # a Unix socket has no port


def test_the_admin_interface_of_no_envoy(tmp_path: Path) -> None:
    admin = EnvoyAdmin(tmp_path / "admin.sock")
    assert not admin.ready()
    with pytest.raises(EnvoyError, match="does not answer"):
        admin.healthy_services()
