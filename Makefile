# make demo   set everything up and run the main job on a small model
# make test   set everything up and run all suites
PYTHON ?= python3
PIP_INSTALL = install -q --disable-pip-version-check -c export/constraints.txt
PLUGINS = $(wildcard plugins/decodekit-*)
SOURCES = $(shell git ls-files decodekit plugins export/pyproject.toml export/constraints.txt pyproject.toml)

# Everything: runtime, training and export, plugins, tools. Editable.
.venv/ready: pyproject.toml export/pyproject.toml export/constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv .venv
	.venv/bin/pip $(PIP_INSTALL) -e '.[cpu,test,dev]' -e export $(addprefix -e ./,$(PLUGINS))
	touch $@

# What an application has: the runtime and plugins as wheels, no torch.
.venv-runtime/ready: $(SOURCES)
	$(PYTHON) -m venv .venv-runtime
	.venv-runtime/bin/pip $(PIP_INSTALL) '.[cpu,test]'
	.venv-runtime/bin/pip $(PIP_INSTALL) --force-reinstall --no-deps . $(addprefix ./,$(PLUGINS))
	touch $@

.PHONY: demo
demo: .venv/ready
	.venv/bin/python docs/examples/demo.py

.PHONY: test
test: test-runtime lint test-export

.PHONY: test-runtime
test-runtime: .venv-runtime/ready
	.venv-runtime/bin/pytest tests plugins

.PHONY: test-export
test-export: .venv/ready
	.venv/bin/pytest export

.PHONY: lint
lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

.PHONY: clean
clean:
	rm -rf .venv .venv-runtime build dist
