"""Many hospitals, one model: rounds of local training and a common decision, with Flower; scans and masks stay at home.

Modules that import Flower run in an environment of their own (``make setup-federated``): ``records``, ``strategy``,
``server_app``, ``client_app``, ``guard``, ``credentials``, ``processes`` and ``run``. The others do not need it.
"""
