# Two commands do everything: `make demo` and `make test`. Each sets up .venv by itself.
.PHONY: setup setup-federated demo demo-study demo-review demo-pacs demo-federated test test-federated test-slow coverage check docs clean

setup:
	@scripts/setup

setup-federated:
	@scripts/setup federated

demo: setup
	@.venv/bin/veridice demo

demo-study: setup
	@scripts/demo_study

demo-review: setup
	@scripts/demo_review

demo-pacs: setup
	@.venv/bin/python scripts/demo_pacs

demo-federated: setup-federated
	@scripts/demo_federated

test: setup
	@scripts/test

# Apart from test: Flower needs an environment of its own.
test-federated: setup-federated
	@scripts/test_federated

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
	rm -rf .venv .venv-federated build dist runs veridice-demo veridice-demo-study veridice-demo-pacs veridice-demo-federated .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
