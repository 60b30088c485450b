"""Where the jobs of a sweep run: one after another, or on Ray, by cores and devices."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rsgm.sweeps.plan import SweepError
from rsgm.sweeps.run import GRACE, Job, Outcome, attend, run

#: seconds between two signs of life
_TICK = 2.0
#: of Ray's object store, which holds nothing here but outcomes
_STORE = 100 * 2**20


def one_by_one(jobs: Iterable[Job]) -> Iterator[Outcome | None]:
    """Without Ray, for an array of single jobs or a machine that has none; None at each look at the one that runs."""
    for job in jobs:
        yield from attend(job)


def on_ray(jobs: Iterable[Job], address: str | None = None, cpus: int | None = None) -> Iterator[Outcome | None]:
    """As many at a time as their cores and devices allow, in the order in which they end; None every two seconds.

    A worker or a node that dies is replaced, and its job continued, as often as the job says. Where the iteration is
    left early, all runs are asked to write their checkpoints and end.

    Arguments:
        jobs: what to run; on a cluster their folders must be the same on all nodes
        address: of a cluster, as Ray takes it, such as ``auto``; None starts one on this machine
        cpus: cores of this machine to use; None is all

    Raises:
        SweepError: without Ray, without the cluster, and for a job that asks for more than there is
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ImportError:
        raise SweepError(
            'A sweep runs on Ray, which is not installed: pip install "rsgm[sweep]". One run after another, without '
            "Ray: --serial."
        ) from None
    here = {"num_cpus": cpus, "object_store_memory": _STORE, "include_dashboard": False} if address is None else {}
    on_sigterm, waiting = signal.getsignal(signal.SIGTERM), {}
    try:
        _reach(address)
        ray.init(address or "local", log_to_driver=False, logging_level="ERROR", **here)
        signal.signal(signal.SIGTERM, on_sigterm)  # which Ray takes
    except (OSError, ValueError) as error:
        raise SweepError(f"No Ray cluster at {address}: {error}") from None
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        task = ray.remote(run)
        for job in jobs:
            _require(job, nodes)
            options = {"num_cpus": job.cpus, "num_gpus": job.gpus, "max_retries": job.retries, "name": job.name}
            waiting[task.options(**options).remote(job)] = job
        while waiting:
            ended, _ = ray.wait(list(waiting), timeout=_TICK)
            for reference in ended:
                job = waiting.pop(reference)
                try:
                    yield ray.get(reference)
                except ray.exceptions.RayError as error:  # of which no log of the run knows
                    yield Outcome(job.name, str(error), float("nan"))
            if not ended:
                yield None
    finally:
        for reference in waiting:
            ray.cancel(reference)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=GRACE + 10)
        ray.shutdown()


def _reach(address: str | None) -> None:
    """Knock at ``HOST:PORT``, for which Ray would wait for minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _require(job: Job, nodes: Sequence[Mapping[str, float]]) -> None:
    """Ray would wait forever for what no single node has."""
    needed = {"CPU": job.cpus, "GPU": job.gpus}
    if any(all(node.get(name, 0) >= number for name, number in needed.items()) for node in nodes):
        return
    asked = " and ".join(f"{number:g} {name}" for name, number in needed.items() if number)
    there = "; ".join(" and ".join(f"{node.get(name, 0):g} {name}" for name in needed) for node in nodes)
    raise SweepError(
        f"{job.name} asks for {asked} on one node, and those that are there have {there or 'nothing'}; lower its cpus "
        "and gpus in the file of the sweep."
    )
