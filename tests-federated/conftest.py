"""Tests with Flower, in the environment of federations: ``make test-federated``. They share the fixtures of the other tests."""

from __future__ import annotations

from flwr.supercore.task_identity import TaskIdentity

pytest_plugins = ["shared"]

# Flower's processes know which run they are of; messages cannot be made without.
TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
