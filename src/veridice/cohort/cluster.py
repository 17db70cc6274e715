"""Tasks on a cluster by Dask: a scheduler that runs already, or one that dask-jobqueue starts on Slurm, PBS or SGE.

The only place that imports Dask; the extra ``cluster``.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from veridice.errors import ClusterError, ConfigError, InputError
from veridice.parallel import ProcessDiedError

Item = TypeVar("Item")
Result = TypeVar("Result")
Queue = Literal["slurm", "pbs", "sge"]
QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster"}
SECONDS_TO_CONNECT = 30
LOGGERS = ("distributed", "distributed.client", "tornado.application")
"""Those to which Dask gives a level of their own."""
EXAMPLE = (
    "write [cluster] with cores, memory, walltime, queue and interface (the network that nodes see), and [scale] with jobs = 10"
)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise InputError("--scheduler and --slurm/--pbs/--sge need Dask: pip install 'veridice[cluster]'") from error
    # What it logs of a connection that is lost is said by our own messages.
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return distributed


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of a running scheduler.

    Raises:
        InputError: none answers there, or Dask is not installed.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"--scheduler {address}: no Dask scheduler answers there ({error}); start `dask scheduler`") from error
    with client:
        yield client


@contextmanager
def queued(queue: Queue, resources: Path) -> Iterator[Any]:
    """A client of workers that are jobs of a queue; they end with it.

    Args:
        queue: which one.
        resources: TOML; ``[cluster]`` goes to dask-jobqueue's class as it is, ``[scale]`` to its ``scale`` or, with
            ``maximum_jobs``, to its ``adapt``.

    Raises:
        ConfigError: the file cannot be used.
        InputError: the queue's commands fail, or Dask is not installed.
    """
    distributed = _distributed()
    cluster_settings, scale = _read_resources(resources)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise InputError(f"--{queue} needs dask-jobqueue: pip install 'veridice[cluster]'") from error
    try:
        cluster = getattr(dask_jobqueue, QUEUES[queue])(**cluster_settings)
    except (TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{resources}: {error}; {EXAMPLE}") from error
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        try:
            cluster.adapt(**scale) if "maximum_jobs" in scale else cluster.scale(**scale)
        except (TypeError, OSError, RuntimeError) as error:
            raise InputError(f"--{queue}: jobs cannot be started ({error})") from error
        yield client


def _read_resources(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable TOML file ({error}); {EXAMPLE}") from error
    cluster = content.get("cluster", {})
    # Without a word dask-jobqueue's scheduler would listen on every network of the machine.
    where = {*cluster, *cluster.get("scheduler_options", {})}
    if not where & {"interface", "host"}:
        raise ConfigError(f"{path}: [cluster] names no interface (or scheduler_options.host) to listen on; {EXAMPLE}")
    return cluster, content.get("scale", {"jobs": 1})


def on_cluster(
    items: Iterable[Item], work: Callable[[Item, int], Result], client: Any, name: Callable[[Item], str]
) -> Iterator[tuple[Item, Result | ProcessDiedError]]:
    """Do ``work`` on every item; results come as they are ready.

    What a worker had under way when it died is given to another; interrupted, what has not begun is taken back.

    Args:
        items: picklable.
        work: a function of a module that workers have too; of the item and the worker's number of threads.
        client: from :func:`connected` or :func:`queued`.
        name: of an item, shown on Dask's dashboard.

    Raises:
        ClusterError: the scheduler was lost, or somebody cancelled the tasks there.
    """
    distributed = _distributed()
    futures: dict[Any, Item] = {}
    try:
        for number, item in enumerate(items):
            key = f"veridice-{name(item)}-{number}"
            futures[client.submit(_on_worker, work, item, key=key, pure=False)] = item
        for future in distributed.as_completed(futures, loop=client.loop):
            item = futures[future]
            error = future.exception()
            if error is None:
                yield item, future.result()
            elif isinstance(error, distributed.KilledWorker):
                yield item, ProcessDiedError("the workers that it was given to died; out of memory?")
            else:
                raise error
            future.release()
    except distributed.CancelledError as error:
        lost = client.status != "running" or "connection" in str(getattr(error, "reason", ""))
        ending = "the Dask scheduler was lost" if lost else "the tasks were cancelled at the Dask scheduler"
        raise ClusterError(ending) from error
    except OSError as error:  # of a connection that is closed
        raise ClusterError(f"the Dask scheduler was lost ({error})") from error
    finally:
        if client.status == "running":
            client.cancel([future for future in futures if not future.done()])


def _on_worker(work: Callable[[Item, int], Result], item: Item) -> Result:
    from distributed import get_worker

    return work(item, get_worker().state.nthreads)
