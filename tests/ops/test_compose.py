"""docker-compose.yml and its Dockerfile, checked against the code they run; no Docker needed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from compose_file import OURS, ROOT, SECRETS, SERVICES, passed_on, substituted
from sqlalchemy import make_url
from typer.testing import CliRunner

from feedback.events import TOPICS
from feedback.log import PARTITIONS
from ops.cli import COMMANDS, app
from ops.settings import RetentionSettings, Settings

RETENTION = {
    "PLAUDIT_RETENTION__COMPLETIONS_DAYS": "90",
    "PLAUDIT_RETENTION__FEEDBACK_DAYS": "50",
    "PLAUDIT_RETENTION__DEAD_LETTER_DAYS": "7",
}
DOCKERFILE = (ROOT / "ops/install/Dockerfile").read_text()


def test_every_process_has_its_container_and_every_command_is_a_real_one():
    commands = {name: service["command"] for name, service in OURS.items()}
    assert commands == {
        "prepare": ["plaudit", "prepare"],
        "vllm": ["plaudit", "engine"],
        "vllm-gpu": ["plaudit", "engine"],
        "gateway": ["plaudit", "serve"],
        "trainer": ["plaudit", "train"],
        "controller": ["plaudit", "control"],
    }
    for _, command, *arguments in commands.values():
        assert command in COMMANDS
        result = CliRunner().invoke(app, [command, *arguments, "--help"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_a_container_is_a_setting_and_its_value_is_valid(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for variable, value in passed_on(OURS[name]["environment"], RETENTION).items():
        assert variable.startswith("PLAUDIT_")
        assert variable.removeprefix("PLAUDIT_").partition("__")[0].lower() in Settings.model_fields, variable
        monkeypatch.setenv(variable, substituted(value, SECRETS))
    settings = Settings()
    assert settings.data_dir == Path("/data")
    assert settings.log_backend == "kafka"
    assert settings.kafka_bootstrap_servers == "kafka:9092"
    if name in ("gateway", "trainer", "controller"):
        assert settings.database_url is not None
        password = SECRETS["PLAUDIT_DATABASE_PASSWORD"]
        assert settings.database_url.get_secret_value() == f"postgresql://plaudit:{password}@postgres:5432/plaudit"
    else:
        assert settings.database_url is None
    assert settings.adapters_dir == Path("/data/adapters")
    assert settings.retention == RetentionSettings(completions_days=90, feedback_days=50, dead_letter_days=7)
    assert not set(RETENTION) & set(passed_on(OURS[name]["environment"], {})), "for ever, unless somebody says otherwise"


def test_secrets_must_be_given_and_the_message_says_how():
    ours, theirs = SERVICES["gateway"]["environment"], SERVICES["postgres"]["environment"]
    for secret in (ours["PLAUDIT_SECRET"], ours["PLAUDIT_DATABASE_URL"], theirs["POSTGRES_PASSWORD"]):
        with pytest.raises(AssertionError, match="openssl rand -hex 32"):
            substituted(secret, {})


def test_postgres_has_the_database_that_the_others_ask_for_on_a_volume_and_says_when_it_is_well():
    postgres = SERVICES["postgres"]
    made = {name: substituted(value, SECRETS) for name, value in postgres["environment"].items()}
    url = make_url(substituted(SERVICES["gateway"]["environment"]["PLAUDIT_DATABASE_URL"], SECRETS))
    assert (url.username, url.database) == (made["POSTGRES_USER"], made["POSTGRES_DB"])
    assert (url.password, url.host, url.port) == (made["POSTGRES_PASSWORD"], "postgres", 5432)
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql/data"]
    how, program, *flags = postgres["healthcheck"]["test"]
    assert (how, program) == ("CMD", "pg_isready")
    assert {"--host=127.0.0.1", f"--username={url.username}", f"--dbname={url.database}"} <= set(flags)


def test_only_the_gateway_has_ports_and_they_are_on_loopback():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(ports) == ["gateway"]
    inside = (Settings.model_fields["port"].default, OURS["gateway"]["environment"]["PLAUDIT_ADMIN_PORT"])
    published = [substituted(port, {}) for port in ports["gateway"]]
    assert published == [f"127.0.0.1:{outside}:{port}" for outside, port in zip((8000, 8001), inside, strict=True)]


def test_only_the_trainer_and_the_one_who_makes_the_folder_may_write_adapters():
    writers = {name for name, service in OURS.items() if "adapters:/data/adapters" in service["volumes"]}
    readers = {name for name, service in OURS.items() if "adapters:/data/adapters:ro" in service["volumes"]}
    assert writers == {"prepare", "trainer"}
    assert readers == set(OURS) - writers


def test_the_topics_are_those_of_the_log_with_its_partitions_and_are_kept_for_ever():
    (script,) = SERVICES["kafka-init"]["command"]
    prefix = SERVICES["gateway"]["environment"]["PLAUDIT_KAFKA_TOPIC_PREFIX"]
    (listed,) = re.findall(r"for topic in (.*); do", script)
    assert listed.split() == [f"{prefix}.{topic}.v1" for topic in TOPICS]
    words = shlex.split(script.replace("\\\n", " "))
    assert words[words.index("--partitions") + 1] == str(PARTITIONS)
    configs = {words[i + 1] for i, word in enumerate(words) if word == "--config"}
    assert configs == {"retention.ms=-1", "retention.bytes=-1", "cleanup.policy=delete"}


def test_kafka_keeps_its_log_on_a_volume_and_says_when_it_is_well():
    kafka = SERVICES["kafka"]
    folder = kafka["environment"]["KAFKA_LOG_DIRS"]
    assert f"kafka:{folder}" in kafka["volumes"]
    assert kafka["healthcheck"]["test"][1].endswith("kafka-broker-api-versions.sh")


def test_containers_start_once_what_they_need_is_there():
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            one_shot = SERVICES[needed]["restart"] == "on-failure"
            assert how["condition"] == ("service_completed_successfully" if one_shot else "service_healthy"), (name, needed)
    for name in ("vllm", "vllm-gpu"):
        assert set(SERVICES[name]["depends_on"]) == {"prepare"}
    for name in ("gateway", "trainer", "controller"):
        assert set(SERVICES[name]["depends_on"]) == {"prepare", "kafka-init", "postgres"}


def test_everything_that_stays_up_has_a_health_check_and_images_are_pinned():
    for name, service in SERVICES.items():
        if service["restart"] == "unless-stopped":
            assert {"test", "interval", "timeout", "start_period"} <= set(service["healthcheck"]), name
        assert re.search(r":(\d+\.\d+[\w.-]*|cpu|gpu)$", substituted(service["image"], {})), service["image"]
    assert {name: service.get("profiles") for name, service in SERVICES.items() if "profiles" in service} == {
        "vllm": ["cpu"],
        "vllm-gpu": ["gpu"],
    }


@pytest.mark.parametrize("name", ["vllm", "gateway", "trainer", "controller"])
def test_a_health_check_fails_where_nobody_answers(name, tmp_path):
    how, python, option, code = OURS[name]["healthcheck"]["test"]
    assert (how, python, option) == ("CMD", "python", "-c")
    nowhere = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", code).replace("/data/run", str(tmp_path))
    assert nowhere != code
    done = subprocess.run([sys.executable, "-c", nowhere], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "ImportError" not in done.stderr
    assert "ModuleNotFoundError" not in done.stderr


def test_health_checks_ask_the_ports_that_the_settings_open():
    fields = Settings.model_fields
    ports = {"gateway": "port", "trainer": "metrics_port_trainer", "controller": "metrics_port_controller"}
    for name, field in ports.items():
        assert f"127.0.0.1:{fields[field].default}/" in OURS[name]["healthcheck"]["test"][3]
    assert "unix:/data/run/engine.sock" in OURS["vllm"]["healthcheck"]["test"][3]
    assert Settings(data_dir=Path("/data")).engine_socket == Path("/data/run/engine.sock")


def test_the_image_is_built_from_files_that_exist_by_a_user_without_rights():
    for service in OURS.values():
        assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE)]
    ignored = (ROOT / "ops/install/Dockerfile.dockerignore").read_text().splitlines()
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignored
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["plaudit"]
