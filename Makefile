# One word per chore; `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
PORT ?= 3000

# One of the two ONNX Runtimes, never both: they overwrite each other.
SERVE_EXTRA ?= $(shell nvidia-smi >/dev/null 2>&1 && echo serve || echo serve-cpu)

# A process a core, four at most, for each takes a gigabyte; the tests of a file stay together.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile

INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help install serve test test-all check format bench

help:  ## list the chores
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: .venv/.installed  ## what development needs, in .venv

serve: .venv-serve/.installed  ## start the service and its page on port 3000, in the foreground
	.venv-serve/bin/care serve --port $(PORT)

test: .venv/.installed check  ## look, then run the tests
	.venv/bin/python -m pytest $(SIDE_BY_SIDE) -m "not long"

test-all: .venv/.installed check  ## the same, with the long tests
	.venv/bin/python -m pytest $(SIDE_BY_SIDE)

check: .venv/.installed  ## lint, format and types; changes nothing
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

format: .venv/.installed  ## mend what can be mended
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: .venv/.installed  ## run every benchmark, and write benchmarks/REPORT.md
	.venv/bin/python -m benchmarks.report

# A stamp says that an environment is complete, so a second call takes no time.

.venv-serve/.installed: pyproject.toml constraints.txt
	@$(call make_venv,.venv-serve)
	@echo "installing what serving needs ($(SERVE_EXTRA)), about a minute ..."
	@.venv-serve/bin/python $(INSTALL) --editable '.[$(SERVE_EXTRA),batch]'
	@$(call check_opencv,.venv-serve)
	@touch $@

# grad-cam without its needs: opencv-python-headless among them would overwrite opencv-python
.venv/.installed: pyproject.toml constraints.txt
	@$(call make_venv,.venv)
	@echo "installing what development needs, some minutes ..."
	@.venv/bin/python $(INSTALL) --editable '.[serve-cpu,ray,training,dev]'
	@.venv/bin/python $(INSTALL) --no-deps grad-cam
	@$(call check_opencv,.venv)
	@touch $@

define make_venv
	if [ -z "$(PYTHON)" ]; then echo "Python 3.11 or newer is needed, and none was found" >&2; exit 1; fi; \
	$(PYTHON) -m venv $(1)
endef

define check_opencv
	if ! $(1)/bin/python -c 'import cv2'; then \
		echo 'OpenCV cannot be loaded. If it names a missing library above, this line installs it:' >&2; \
		echo '    sudo apt-get install -y libgl1 libglib2.0-0 libxcb1' >&2; \
		exit 1; \
	fi
endef
