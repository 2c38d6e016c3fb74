"""The command line, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import typer

from ops.chaos.scenarios import NAMES
from ops.cli import COMMANDS, load
from ops.open_log import open_log_of
from ops.settings import load_settings


def plaudit(*arguments: str, data_dir=None, **environment: str) -> subprocess.CompletedProcess[str]:
    folder = ["--data-dir", str(data_dir)] if data_dir else []
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments, *folder],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"COLUMNS": "200"} | environment,
    )


def test_help_lists_every_command_without_importing_any_of_them():
    code = (
        "import sys; sys.argv = ['plaudit', '--help']\n"
        "from ops.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'vllm', 'fastapi', 'sqlalchemy', 'kafka', 'scipy', 'openai', 'pydantic'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in COMMANDS)


def test_every_command_is_there_and_takes_a_data_folder_or_talks_http():
    for name, entry in COMMANDS.items():
        assert callable(load(entry.where)), name
    groups = (["keys", "create"], ["projects", "create"], ["adapters", "list"], ["ab", "status"])
    for arguments in (["up"], ["train"], ["control"], ["serve"], ["doctor"], *groups):
        assert "--data-dir" in plaudit(*arguments, "--help").stdout, arguments


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if isinstance(load(entry.where), typer.Typer)])
def test_the_line_of_a_group_names_all_that_is_in_it(name: str):
    inside = typer.main.get_command(load(COMMANDS[name].where)).commands
    assert [command for command in inside if command not in COMMANDS[name].help] == []


SHORT = {
    **dict.fromkeys(("--lines", "--limit", "--requests", "--swaps", "--votes", "--prompts"), "-n"),
    **dict.fromkeys(("--streams", "--connections", "--concurrency"), "-c"),
    **{"--rounds": "-r", "--workers": "-w", "--follow": "-f"},
}
"""How many, how many at once, and so on: one letter for one thing, in every command that asks for it."""


def options_of(name: str) -> list[list[str]]:
    """The names of each option of a command, or of all in a group."""
    target = load(COMMANDS[name].where)
    if not isinstance(target, typer.Typer):
        alone = typer.Typer()
        alone.command()(target)
        target = alone
    made = typer.main.get_command(target)
    inside = made.commands.values() if isinstance(made, typer.core.TyperGroup) else [made]
    nested = [one for each in inside for one in (each.commands.values() if isinstance(each, typer.core.TyperGroup) else [each])]
    return [param.opts for command in nested for param in command.params if isinstance(param, typer.core.TyperOption)]


@pytest.mark.parametrize("name", COMMANDS)
def test_short_options_mean_the_same_everywhere(name: str):
    for long, *short in options_of(name):
        assert short == ([SHORT[long]] if long in SHORT else []), f"{name} {long}"


def test_help_of_chaos_names_every_scenario_and_what_full_does():
    shown = " ".join(plaudit("chaos", "log", "--help").stdout.replace("│", " ").split())
    assert [name for name in NAMES if name not in shown] == []
    assert "100 000 events" in shown


def test_what_a_command_logs_is_not_mixed_with_what_it_prints():
    code = "import structlog; from ops.cli import _imported; _imported('raters'); structlog.get_logger().error('odd record')"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (shown.stdout, json.loads(shown.stderr)["event"]) == ("", "odd record")


@pytest.mark.parametrize("command", ["feedback stats", "feedback tail", "replay", "raters list", "dead-letter list"])
def test_a_data_folder_without_a_log_is_told_and_not_made(command: str, tmp_path):
    typo = tmp_path / "typo"
    refused = plaudit(*command.split(), data_dir=typo)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"--data-dir={typo}: no event log is there" in refused.stderr
    assert not typo.exists()


def test_names_that_nobody_has_are_told(tmp_path):
    settings = load_settings(data_dir=tmp_path)
    with open_log_of(settings):
        pass
    assert "no feedback of project 'nope'" in plaudit("feedback", "stats", "--project", "nope", data_dir=tmp_path).stderr
    refused = plaudit("raters", "list", "--stream", "nosuch", data_dir=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "stream 'nosuch': project 'default' has none" in refused.stderr
    paused = plaudit("raters", "pause", "--user", "nobody", "--reason", "x", data_dir=tmp_path)
    assert "--user='nobody' has no vote yet" in paused.stderr


def test_a_key_is_created_listed_without_its_secret_and_revoked(tmp_path):
    made = plaudit("keys", "create", "--project", "default", "--role", "app", "--json", data_dir=tmp_path)
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    listed = plaudit("keys", "list", "--json", data_dir=tmp_path)
    assert key["key"] not in listed.stdout
    assert [row["id"] for row in json.loads(listed.stdout)] == [key["id"]]
    assert plaudit("keys", "revoke", key["id"], data_dir=tmp_path).returncode == 0
    assert json.loads(plaudit("keys", "list", "--json", data_dir=tmp_path).stdout)[0]["revoked"] is not None


def test_a_key_for_an_unknown_project_is_refused_with_the_value_named(tmp_path):
    refused = plaudit("keys", "create", "--project", "nobody", data_dir=tmp_path)
    assert refused.returncode == 2
    assert "--project='nobody'" in refused.stderr
    assert refused.stdout == ""


def test_a_key_gets_the_projects_and_limits_that_were_named(tmp_path):
    assert plaudit("projects", "create", "shop", data_dir=tmp_path).returncode == 0
    options = ["--requests-per-min", "60", "--tokens-per-min", "9000", "--concurrent", "2", "--name", "bot"]
    made = plaudit("keys", "create", "--project", "shop", "--project", "default", *options, "--json", data_dir=tmp_path)
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    assert key["projects"] == ["shop", "default"]
    assert key["limits"] == {"requests_per_min": 60, "tokens_per_min": 9000, "concurrent": 2}
    for project in key["projects"]:
        (row,) = json.loads(plaudit("keys", "list", "--project", project, "--json", data_dir=tmp_path).stdout)
        assert row == {name: value for name, value in key.items() if name != "key"}
    table = plaudit("keys", "list", "--project", "shop", data_dir=tmp_path).stdout
    assert all(text in table for text in ("bot", "shop, default", "60 requests/min", "9000 tokens/min", "2 concurrent"))


def test_an_operators_key_may_be_for_all_projects(tmp_path):
    made = plaudit("keys", "create", "--all-projects", "--role", "operator", "--json", data_dir=tmp_path)
    assert json.loads(made.stdout)["all_projects"] is True
    plaudit("projects", "create", "later", data_dir=tmp_path)
    listed = json.loads(plaudit("keys", "list", "--project", "later", "--json", data_dir=tmp_path).stdout)
    assert [row["id"] for row in listed] == [json.loads(made.stdout)["id"]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--role", "boss"], "--role='boss': use one of app, annotator, operator"),
        (["--all-projects"], "--role='app': a key for all projects is an operator's"),
        (["--all-projects", "--project", "default", "--role", "operator"], "--all-projects: leave --project out"),
        (["--requests-per-min", "0"], "--requests-per-min=0: use 1 to"),
        (["--tokens-per-min", "-5"], "--tokens-per-min=-5: use 1 to"),
        (["--concurrent", "1001"], "--concurrent=1001: use 1 to 1000"),
    ],
)
def test_a_key_that_cannot_be_is_one_plain_line_and_is_not_made(tmp_path, options, told):
    refused = plaudit("keys", "create", *options, data_dir=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"plaudit: {told}")
    assert len(refused.stderr.splitlines()) == 1
    assert json.loads(plaudit("keys", "list", "--json", data_dir=tmp_path).stdout) == []


def test_projects_are_made_listed_and_get_other_origins(tmp_path):
    origins = ["https://a.example", "http://localhost:3000"]
    options = [part for origin in origins for part in ("--origin", origin)]
    for _ in range(2):
        assert plaudit("projects", "create", "shop", *options, data_dir=tmp_path).returncode == 0, "again: nothing changes"
    plaudit("keys", "create", "--project", "shop", data_dir=tmp_path)
    default, shop = json.loads(plaudit("projects", "list", "--json", data_dir=tmp_path).stdout)
    assert (default["name"], default["origins"], default["keys"]) == ("default", [], 0)
    assert (shop["name"], sorted(shop["origins"]), shop["keys"]) == ("shop", sorted(origins), 1)
    other = plaudit("projects", "create", "shop", "--origin", "https://b.example", data_dir=tmp_path)
    assert other.returncode == 2
    assert "plaudit projects origins shop --origin https://b.example" in other.stderr
    replaced = plaudit("projects", "origins", "shop", "--origin", "https://b.example", "--json", data_dir=tmp_path)
    assert json.loads(replaced.stdout)["origins"] == ["https://b.example"]
    assert "https://b.example" in plaudit("projects", "list", data_dir=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "Shop"], "project 'Shop': use"),
        (["create", "shop", "--origin", "*"], "origin '*': use"),
        (
            ["create", "shop", "--origin", "https://a.example/x"],
            "origin 'https://a.example/x': browsers send it as https://a.example",
        ),
        (["origins", "nobody", "--origin", "https://a.example"], "project 'nobody': there is no"),
    ],
)
def test_a_project_that_cannot_be_is_one_plain_line_and_is_not_made(tmp_path, arguments, told):
    refused = plaudit("projects", *arguments, data_dir=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"plaudit: {told}")
    assert [row["name"] for row in json.loads(plaudit("projects", "list", "--json", data_dir=tmp_path).stdout)] == ["default"]


def test_receipts_keys_are_rotated(tmp_path):
    for older in (1, 2):
        assert json.loads(plaudit("keys", "rotate-receipts", "--json", data_dir=tmp_path).stdout) == {"older_keys": older}
    assert (tmp_path / "receipt_keys.json").stat().st_mode & 0o777 == 0o600


def test_a_wrong_setting_is_one_line_that_names_it_and_not_a_traceback(tmp_path):
    refused = plaudit("adapters", "list", data_dir=tmp_path, PLAUDIT_PORT="http")
    assert refused.returncode == 2
    assert "port='http'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unknown_adapter_is_refused(tmp_path):
    refused = plaudit("adapters", "show", "default-v9-00000000", data_dir=tmp_path)
    assert refused.returncode == 2
    assert "default-v9-00000000" in refused.stderr


def test_an_adapter_without_a_readable_manifest_is_one_line_that_says_so(tmp_path):
    folder = tmp_path / "adapters" / "default-v9-00000000"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    refused = plaudit("adapters", "show", "default-v9-00000000", data_dir=tmp_path)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "manifest.json: json: Invalid JSON" in refused.stderr


def test_a_log_that_cannot_be_read_is_one_line_that_says_so(tmp_path):
    (tmp_path / "log.db").write_bytes(b"not a database " * 1000)
    refused = plaudit("ab", "status", data_dir=tmp_path)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "the event log: " in refused.stderr


def test_simulated_people_find_the_project_there_and_say_that_nobody_answers(tmp_path):
    told = plaudit("simulate", "--votes", "1", "--url", "http://127.0.0.1:9/v1", "--json", data_dir=tmp_path)
    assert (told.returncode, "Traceback" in told.stderr) == (2, False)
    assert "only 0 of 1 votes" in told.stderr
    assert json.loads(told.stdout)["failed_requests"] == 1, "nobody asks again and again where nobody is"
    (key,) = json.loads(plaudit("keys", "list", "--json", data_dir=tmp_path).stdout)
    assert (key["name"], key["revoked"] is not None) == ("simulate", True)


def test_the_doctor_and_the_processes_say_who_has_a_port(tmp_path):
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = str(other.server_port)
        told = plaudit("doctor", "--json", data_dir=tmp_path, PLAUDIT_PORT=port)
        findings = {row["check"]: row for row in json.loads(told.stdout)}
        assert (told.returncode, findings["port"]["figure"]) == (1, f"{port} is taken")
        assert "/readyz says 404" in findings["port"]["advice"]
        ports = (["serve"], "PORT"), (["control"], "METRICS_PORT_CONTROLLER")
        for command, name in ports:
            refused = plaudit(*command, data_dir=tmp_path, **{f"PLAUDIT_{name}": port})
            assert refused.returncode == 2
            assert refused.stderr.splitlines()[-1].startswith(f"plaudit: {name.lower()}={port}: cannot listen on 127.0.0.1")
        other.shutdown()


def test_what_people_say_is_for_the_owners_eyes_only(tmp_path):
    plaudit("ab", "status", data_dir=tmp_path)
    plaudit("keys", "create", data_dir=tmp_path)
    assert {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("log.db", "plaudit.db")} == {
        "log.db": 0o600,
        "plaudit.db": 0o600,
    }


def test_a_fresh_data_folder_has_no_adapters_and_a_base_champion(tmp_path):
    assert json.loads(plaudit("adapters", "list", "--json", data_dir=tmp_path).stdout) == []
    assert json.loads(plaudit("ab", "status", "--json", data_dir=tmp_path).stdout)["champion"] == "base"


def test_the_doctor_finds_this_machine_fit(tmp_path):
    told = plaudit("doctor", "--json", data_dir=tmp_path, PLAUDIT_PORT="1")
    findings = {row["check"]: row for row in json.loads(told.stdout)}
    assert findings["vLLM"]["ok"]
    assert findings["no stray torch packages"]["ok"]
    assert findings["port"]["figure"] == "1 is free"


def test_a_database_that_is_not_there_is_one_line_without_its_password(tmp_path):
    nowhere = "postgresql://plaudit:hunter2@127.0.0.1:1/plaudit"
    told = plaudit("keys", "list", data_dir=tmp_path, PLAUDIT_DATABASE_URL=nowhere)
    (line,) = told.stderr.splitlines()
    assert (told.returncode, told.stdout) == (2, "")
    assert line.startswith("plaudit: the database 127.0.0.1:1/plaudit does not answer:")
    found = plaudit("doctor", "--json", data_dir=tmp_path, PLAUDIT_DATABASE_URL=nowhere)
    (finding,) = [row for row in json.loads(found.stdout) if row["check"] == "database"]
    assert (found.returncode, finding["ok"]) == (1, False)
    assert "hunter2" not in told.stderr + found.stdout
