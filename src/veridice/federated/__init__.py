"""Many hospitals, one model: rounds of local training and a common decision, with Flower; scans and masks stay at home.

Modules that import Flower run in an environment of their own (``make setup-federated``): ``messages``, ``strategy``,
``server_app``, ``client_app``, ``own_programs``, ``credentials``, ``processes`` and ``members``. The others do not need it.
"""
