# Two commands do everything: `make demo` and `make test`. Each sets up .venv by itself.
.PHONY: setup demo demo-study demo-review demo-pacs test test-slow coverage check docs clean

setup:
	@scripts/setup

demo: setup
	@.venv/bin/veridice demo

demo-study: setup
	@scripts/demo_study

demo-review: setup
	@scripts/demo_review

demo-pacs: setup
	@.venv/bin/python scripts/demo_pacs

test: setup
	@scripts/test

test-slow: setup
	@scripts/test -m slow

# Apart from test: tracing every call nearly doubles the time of the tests.
coverage: setup
	@scripts/test --cov --cov-report=term:skip-covered --cov-fail-under=90

check: setup
	@scripts/check

docs: setup
	@scripts/docs

clean:
	rm -rf .venv build dist runs veridice-demo veridice-demo-study veridice-demo-pacs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
