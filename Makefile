# make demo: the main job on a trained model.  make test: everything CI runs.  make check: format, lint, types.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test quick check format clean
demo: .venv/ready
	$(BIN)/python examples/demo.py

test: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(shell grep "^torch==" constraints.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[torch,dev]"
	mkdir -p .venv/src && ln -sfn ../.. .venv/src/tamago  # where pyright finds the package: the repository is its root
	touch $@

clean:
	rm -rf .venv build *.egg-info
