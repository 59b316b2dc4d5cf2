"""What each part is given of the caller's environment."""

from __future__ import annotations

from services.mesh.supervisor.environment import outbound_environment, part_environment

CALLER = {
    "PATH": "/usr/bin",
    "LC_ALL": "C.UTF-8",
    "MYCEL_CALL_TIMEOUT": "5",
    "MYCEL_API_KEY": "canary-caller",
    "MYCEL_STORE_TOKEN": "canary-store",
    "OPENAI_API_KEY": "canary-openai",
    "COMPANY_LLM_KEY_FILE": "/run/canary",
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary-otel",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
    "https_proxy": "http://user:canary@proxy:3128",
    "SSL_CERT_FILE": "/etc/ssl/own.pem",
}


def test_a_part_that_calls_nobody_gets_no_secret() -> None:
    environment = part_environment(CALLER, {"MYCEL_MESH": "unix:/x"})
    assert "canary" not in repr(environment)
    assert environment == {"PATH": "/usr/bin", "LC_ALL": "C.UTF-8", "MYCEL_CALL_TIMEOUT": "5", "MYCEL_MESH": "unix:/x"}


def test_a_part_gets_the_secret_that_it_is_granted() -> None:
    environment = part_environment(CALLER, {}, ["MYCEL_STORE_TOKEN"])
    assert [value for value in environment.values() if "canary" in value] == ["canary-store"]


def test_what_is_set_for_the_part_counts_more_than_the_callers() -> None:
    assert part_environment({"MYCEL_MESH": "theirs"}, {"MYCEL_MESH": "ours"}) == {"MYCEL_MESH": "ours"}


def test_the_provider_gets_the_keys_that_the_configuration_names_and_no_others() -> None:
    environment = outbound_environment(CALLER, {}, ["OPENAI_API_KEY", "COMPANY_LLM_KEY"])
    assert environment["OPENAI_API_KEY"] == "canary-openai"
    assert environment["COMPANY_LLM_KEY_FILE"] == "/run/canary"
    assert environment["SSL_CERT_FILE"] == "/etc/ssl/own.pem"
    assert not {"MYCEL_API_KEY", "AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_HEADERS"} & environment.keys()


def test_a_proxy_never_gets_calls_to_this_machine() -> None:
    environment = outbound_environment(CALLER | {"NO_PROXY": "intranet"}, {}, [])
    assert environment["https_proxy"] == CALLER["https_proxy"]
    assert environment["NO_PROXY"] == environment["no_proxy"] == "intranet,127.0.0.1,localhost"
    assert "NO_PROXY" not in outbound_environment({"PATH": "/bin"}, {}, [])
