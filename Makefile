# All commands run in .venv, which is created from pyproject.toml with the versions in requirements.lock.

PYTHON ?= python3
DEVICE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

# The folder of the study, for the targets that name IN.
IN ?= .

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true
export DVC_NO_ANALYTICS ?= true

.PHONY: help setup merging home demo new study stale certify settle compare predict ui serve test test-all test-batched test-oldest check bench lock
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/bin/uv | home merging ## create .venv, with JAX for CUDA on a machine with an NVIDIA GPU
	@$(INSTALLED) | cmp -s - .venv/ready || { $(INSTALL) && $(INSTALLED) > .venv/ready; }
	@[ -e .git ] || [ -e .dvc/config.local ] || printf '[core]\n    no_scm = true\n' > .dvc/config.local # a ZIP archive: DVC without git

merging: # configure the merge drivers that .gitattributes names, if this is a git repository
	@[ "$$(git rev-parse --show-toplevel 2>&1)" != "$(CURDIR)" ] || { git config merge.ours.driver true && \
	git config merge.study-lock.driver '.venv/bin/python -m tools.merge %O %A %B || git merge-file %A %O %B' && \
	git config merge.study-ledger.driver '.venv/bin/python -m tools.merge %O %A %B %P || { git merge-file %A %O %B; false; }'; }

home:
	@[ -d "$$HOME" ] && [ -w "$$HOME" ] || { echo "error: HOME should be a folder that you can write to, found '$$HOME': name one, as in HOME=/tmp/home make ..." >&2; exit 1; }

# What .venv was created from, and the versions in it, which pip may have changed since. Contents are compared, not
# modification times, which a checkout changes.
INSTALLED = { echo "$(CURDIR) $(DEVICE)"; cat pyproject.toml requirements.lock dask.yaml; echo .venv/lib/*/site-packages/*.dist-info; }

define INSTALL
uv pip install --quiet --system-certs --python .venv -c requirements.lock -e '.[$(DEVICE),pipeline,cluster,dev]' && \
{ .venv/bin/python -m compileall -j 0 -qq -x '/tests?/' .venv/lib || true; } && \
mkdir -p .venv/etc/dask && cp dask.yaml .venv/etc/dask/many-seeds.yaml
endef

.venv/bin/uv: | home
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("error: Python 3.11, 3.12 or 3.13 is needed, %s is %d.%d; name another with make PYTHON=..." % (sys.executable, *v))'
	@$(PYTHON) -c 'import sys; "$(DEVICE)" != "gpu" or sys.version_info >= (3, 12) or sys.exit("error: JAX for CUDA needs Python 3.12 or 3.13: make PYTHON=..., or DEVICE=cpu")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

demo: setup ## run the pipeline on small real digits in build/demo (2 minutes)
	python -m tools.demo

new: setup ## write params.yaml for your data (DATA=own/shapes NAME=shapes)
	@[ -n "$(DATA)" ] && [ -n "$(NAME)" ] || { echo "error: name your data, as in make new DATA=own/shapes NAME=shapes" >&2; exit 1; }
	@python -m tools.new "$(DATA)" "$(NAME)"

study: setup ## run the study on MNIST: dvc repro
	python -m tools.stale
	dvc repro

stale: setup ## list what an edit has made stale (IN=build/demo)
	@cd "$(IN)" && python -m tools.stale

certify: setup ## train a sample after an edit; keep equal results (ARGS=--plan)
	@python -m tools.certify $(ARGS)

settle: setup ## add seeds to undecided comparisons (IN=build/demo, ARGS=--plan)
	cd "$(IN)" && python -m tools.settle $(ARGS)

compare: REV ?= HEAD
compare: setup ## `dvc metrics diff` with a verdict on each variant (REV=main)
	@python -m tools.compare $(REV) $(ARGS)

predict: export IMAGE ?= tools/serving/example.png
predict: setup ## classify an image (IMAGE=digit.png, IN=build/demo)
	@case "$$IMAGE" in /*) ;; *) IMAGE="$$PWD/$$IMAGE" ;; esac; cd "$(IN)" && python -m tools.serving.predict "$$IMAGE"

ui: PORT ?= 5000
ui: setup ## show all runs in MLflow (PORT=5000, IN=build/demo)
	cd "$(IN)" && python -m stages.tracking
	-cd "$(IN)" && python -m tools.serving.register
	cd "$(IN)" && python -m tools.ui --port $(PORT)

serve: PORT ?= 5001
serve: setup ## a page to draw digits, and a server (PORT=5001, IN=build/demo)
	cd "$(IN)" && python -m stages.tracking && python -m tools.serving.register && python -m tools.serving.server --port $(PORT)

test: setup ## run the tests that take seconds each
	python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: test-batched ## run all tests, as CI does
	python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-batched: setup # batched seeds, which need JAX as Keras's backend and so a process of their own
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu python -m pytest --quiet tests/stages/train/executors/test_lanes.py

test-oldest: OLDEST = build/oldest
test-oldest: .venv/bin/uv ## test the library with the oldest packages that it supports
	uv venv --quiet --clear --python 3.11 $(OLDEST)
	uv pip install --quiet --system-certs --python $(OLDEST) --resolution lowest-direct --extra run -r pyproject.toml
	uv pip install --quiet --system-certs --python $(OLDEST) -c requirements.lock pytest pytest-timeout pytest-xdist
	$(OLDEST)/bin/python -m pytest --confcutdir tests/many_seeds -m "not pipeline" --numprocesses auto --dist loadfile \
	  --ignore tests/many_seeds/test_mlflow.py --ignore tests/many_seeds/test_verdict_docs.py tests/many_seeds

check: setup ## lint and type-check
	ruff format --check .
	ruff check .
	mypy

bench: setup ## measure speed and scaling, and write benchmarks/README.md
	dvc repro split # the images; trains nothing
	python -m benchmarks.bench

lock: .venv/bin/uv ## resolve pyproject.toml to requirements.lock
	uv pip compile --quiet --universal --all-extras --python-version 3.11 --no-header --no-annotate --no-emit-index-url --system-certs --output-file requirements.lock pyproject.toml
