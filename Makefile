# Two commands do everything: `make demo` and `make test`. Each sets up .venv by itself.
.PHONY: setup demo test test-slow check docs clean

setup:
	@scripts/setup

demo: setup
	@.venv/bin/veridice demo

test: setup
	@scripts/test

test-slow: setup
	@scripts/test -m slow --no-cov

check: setup
	@scripts/check

docs: setup
	@scripts/docs

clean:
	rm -rf .venv build dist runs veridice-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
