"""The import graph of the architecture, and what no file may hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"feedback": set(), "ops": {"feedback"}, "serving": {"feedback", "ops"}, "trainer": {"feedback", "ops"}}
HEAVY = {"torch", "transformers", "peft", "trl", "vllm", "fastapi", "starlette", "uvicorn"}
TOP_LEVEL = {"pyproject.toml", "README.md", "serving", "feedback", "trainer", "ops", "tests", "docker-compose.yml"}
ALSO_ALLOWED = {"Makefile", "LICENSE", "CHANGELOG.md", "docs"}


def imports_of(source: str) -> set[str]:
    """Absolute dotted names imported anywhere in a file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(node.module or "")
    return names


def files_of(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no files"
    return files


def test_imports_of_a_file_are_found_inside_functions_too():
    assert imports_of("import a.b\ndef f():\n    from c.d import e") == {"a.b", "c.d"}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_the_architecture_allows(package):
    for path in files_of(package):
        roots = {name.split(".")[0] for name in imports_of(path.read_text())}
        foreign = (roots & set(PACKAGES)) - PACKAGES[package] - {package}
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


@pytest.mark.parametrize("package", ["feedback", "ops"])
def test_the_log_and_the_operators_side_load_without_models_or_web_frameworks(package):
    for path in files_of(package):
        heavy = {name.split(".")[0] for name in imports_of(path.read_text())} & HEAVY
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


def test_the_gateways_parent_is_made_of_the_standard_library_alone():
    """It lives as long as the gateway: what it imports is memory for nothing."""
    loaded = modules_after("import serving.workers") - modules_after("pass")
    assert "serving" in loaded
    assert loaded <= sys.stdlib_module_names | {"serving", "ops"}


def modules_after(statement: str) -> set[str]:
    """Names of the packages that a fresh interpreter has loaded then."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_kafka_is_known_to_one_package():
    users = {
        str(path.parent.relative_to(ROOT))
        for package in PACKAGES
        for path in files_of(package)
        if any(name.split(".")[0] == "kafka" for name in imports_of(path.read_text()))
    }
    assert users == {"feedback/cluster"}


def test_vllms_http_api_is_known_to_one_module_on_each_side():
    users = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files_of(package)
        if "load_lora_adapter" in path.read_text()
    }
    assert users == {"serving/engine.py", "trainer/rollouts.py", "ops/bench/stub.py"}  # the stub plays vLLM


def test_nothing_unpickles():
    unsafe = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for package in PACKAGES:
        for path in files_of(package):
            source = path.read_text()
            assert not {name.split(".")[0] for name in imports_of(source)} & unsafe, path
            assert "torch.load(" not in source, f"{path.relative_to(ROOT)}: use safetensors"


def test_the_top_level_holds_what_a_newcomer_must_know_and_nothing_else():
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    names = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in names if not name.startswith(".")} - ALSO_ALLOWED == TOP_LEVEL


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
