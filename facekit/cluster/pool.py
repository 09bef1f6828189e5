"""Workers of Ray Data, each with one job that was made once: a detector stays loaded from shard to shard.

Ray Data hands out the shards, starts dead workers anew and gives them the shards that they had in hand. Only the
numbers of shards and short results pass through it: pictures go from where they lie to the worker that looks at them,
so Ray's object store stays empty, and nothing spills.
"""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from facekit import __version__
from facekit.base.extras import optional_packages
from facekit.base.options import Engine, given_of
from facekit.cluster.trials import MOST_DEATHS, Trial, Trials
from facekit.errors import ArgumentError, FacekitError
from facekit.machine.cores import usable_cores
from facekit.machine.native_output import native_output_hidden
from facekit.machine.signals import sigterm_kept

log = logging.getLogger(__name__)

Job = Callable[[Any, Trial], Any]
Result = tuple[Any, str | None, list[str]]  # what a job said, or why it could not, and what it warned of

STORE_BYTES = 256 << 20  # of the embedded Ray's object store: pictures don't pass through it
CONNECT_S = 10.0  # until a cluster answers
MOST_TASKS = 20_000  # a task a shard as long as there are no more: each costs the driver some milliseconds


@dataclass(frozen=True)
class Workers:
    """How many processes work, where, and what each takes for itself."""

    address: str | None = None  # of a Ray cluster: auto, HOST:PORT, ray://HOST:PORT; None: one of this run's own
    number: int | None = None  # None: as many as the cores are enough for
    cpus: int = 1  # of a worker
    gpus: float = 0.0

    def count(self, cores: float) -> int:
        return self.number or max(1, int(cores // self.cpus))


class TakesWorkers(Protocol):
    """Options of a command that workers may do."""

    @property
    def engine(self) -> Engine: ...
    @property
    def address(self) -> str | None: ...
    @property
    def num_workers(self) -> int | None: ...
    @property
    def cpus_per_worker(self) -> int: ...
    @property
    def gpus_per_worker(self) -> float: ...
    @property
    def shard_size(self) -> int: ...


def workers_of(options: TakesWorkers, has_shards: bool = False) -> Workers | None:
    """None for work in this process alone. Raises ArgumentError where that is asked to be several, or to take its
    pictures in shards (has_shards: it does)."""
    if options.engine == "local":
        about = ["address", "num_workers", "cpus_per_worker", "gpus_per_worker"] + ["shard_size"] * (not has_shards)
        if given := given_of(options, about):
            raise ArgumentError(f"`{given[0]}` is about Ray's workers: add `engine=ray`.")
        return None
    return Workers(options.address, options.num_workers, options.cpus_per_worker, options.gpus_per_worker)


class _Box:
    """Keeps an item as it is: Arrow would turn tuples and numbers into its own."""

    def __init__(self, item: Any) -> None:
        self.item = item


class _Worker:
    """What Ray Data makes once a process, and calls with a batch of one box."""

    def __init__(self, make: Callable[[], Job], version: str, folder: str, trials: Any) -> None:
        with suppress(OSError):  # absolute names do without it
            os.chdir(folder)
        self._warnings = _Warnings()
        self._trials = trials  # the actor that counts them
        self._error: str | None = None
        self._job: Job | None = None
        if version != __version__:
            self._error = f"A worker has facekit {__version__}, the driver {version}. Install one version on all nodes."
            return
        try:
            self._job = make()
        except FacekitError as error:
            self._error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        (box,) = batch["box"]
        results = np.empty(1, dtype=object)
        results[0] = _Box(self._one(*box.item))
        return {"result": results}

    def _one(self, number: int, item: Any) -> Result:
        """The result, or why there is none, and what the log said meanwhile."""
        import ray

        if self._job is None:
            return None, self._error, []
        deaths, suspects = ray.get(self._trials.begin.remote(number))
        if deaths > MOST_DEATHS:
            why = f"{deaths} workers died over the same shard. Is there memory enough for each? Look at Ray's logs."
            return None, why, []
        trial = Trial(deaths, suspects, lambda what: ray.get(self._trials.note.remote(number, what)))
        try:
            return self._job(item, trial), None, self._warnings.taken()
        except FacekitError as error:
            return None, str(error), self._warnings.taken()
        finally:
            self._trials.end.remote(number)


class _Warnings(logging.Handler):
    """Keeps what facekit warns of in a worker, for the driver to say: a worker's own streams may end in any file."""

    MOST = 20

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: dict[str, None] = {}
        logging.getLogger("facekit").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._texts) < self.MOST:
            self._texts[record.getMessage()] = None

    def taken(self) -> list[str]:
        texts, self._texts = list(self._texts), {}
        return texts


@contextmanager
def ray_of(workers: Workers) -> Generator[int, None, None]:
    """While entered, this process is connected to a Ray: its own, or the cluster of the address. Gives the number of
    workers. Raises FacekitError where there is no such cluster, or not room for one worker."""
    # Told before Ray is imported, which else prints lines of its own for each actor.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if workers.address is None:  # else workers would give way to all other work on this machine, at niceness 15
        os.environ.setdefault("RAY_worker_niceness", "0")
    with optional_packages():
        import ray
        import ray.data
    if ray.is_initialized():  # by the program that calls us, whose it stays
        yield _room(ray, workers)
        return
    with sigterm_kept():  # Ray takes it
        _connect(ray, workers)
        try:
            yield _room(ray, workers)
        finally:
            with suppress(Exception):  # the cluster may be gone
                ray.shutdown()


def _connect(ray: Any, workers: Workers) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if workers.address is None:
            count = workers.count(usable_cores())
            with native_output_hidden():  # it says that it obeys RAY_BACKEND_LOG_LEVEL
                ray.init(
                    "local", num_cpus=count * workers.cpus, num_gpus=math.ceil(count * workers.gpus),
                    include_dashboard=False, object_store_memory=STORE_BYTES, **quiet,
                )  # fmt: skip
        else:
            _knock(workers.address)
            with native_output_hidden():
                ray.init(workers.address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = "here" if workers.address is None else f"at `address={workers.address}`"
        raise FacekitError(
            f"No Ray could be reached or started {where} ({str(error).strip().partition(chr(10))[0]}). Start one with "
            f"'ray start --head', or leave `address` out. Does it ask for a token? Then set RAY_AUTH_MODE=token."
        ) from error


def _knock(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()


def _room(ray: Any, workers: Workers) -> int:
    there = ray.cluster_resources()
    cores, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    if cores < workers.cpus or gpus < workers.gpus:
        raise FacekitError(
            f"The Ray cluster has {cores:g} CPUs and {gpus:g} GPUs; one worker is to have {workers.cpus} and "
            f"{workers.gpus:g}. Lower `cpus_per_worker` or `gpus_per_worker`, or start more nodes."
        )
    return workers.count(cores)


def over_workers(
    make: Callable[[], Job], items: Sequence[Any], workers: Workers, count: int
) -> Generator[Any, None, None]:
    """What the job says of each item, in any order, each once, whatever workers or nodes die meanwhile.

    make: called once a worker process; what it makes is called with an item at a time, and the trial that this is.
    Raises the FacekitError that a job raises, and one where workers die again and again. Within ray_of().
    """
    if not items:
        return
    said: set[str] = set()
    with _quiet():
        results = (_results_from_afar if _is_client(workers) else _results)(
            make, items, workers, count, str(Path.cwd())
        )
        for result, error, warnings in results:
            for text in warnings:
                if text not in said:
                    said.add(text)
                    log.warning("%s", text)
            if error is not None:
                raise FacekitError(error)
            yield result


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Without bars and lines of Ray Data's own."""
    import ray
    import ray.data

    context = ray.data.DataContext.get_current()
    had_bars, context.enable_progress_bars = context.enable_progress_bars, False
    loggers = [logging.getLogger(name) for name in ("ray.data", "ray")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = had_bars
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_client(workers: Workers) -> bool:
    """Whether this process is outside the cluster: Ray Data's driver must be in it."""
    return workers.address is not None and workers.address.startswith("ray://")


class _Afar:
    """Ray Data's driver, in the cluster, for a process outside."""

    def __init__(self, *arguments: Any) -> None:
        self._quiet = _quiet()
        self._quiet.__enter__()
        self._results = _results(*arguments)

    def next(self) -> Result | None:
        return next(self._results, None)


def _results_from_afar(*arguments: Any) -> Generator[Result, None, None]:
    import ray

    afar: Any = ray.remote(num_cpus=0)(_Afar).remote(*arguments)
    while (result := ray.get(afar.next.remote())) is not None:
        yield result


def _results(
    make: Callable[[], Job], items: Sequence[Any], workers: Workers, count: int, folder: str
) -> Generator[Result, None, None]:
    """folder: the workers' current one, where their machines have it."""
    import ray
    import ray.data
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Beside the driver: on another node it could be lost with that node, which only costs workers else.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    lasting: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Trials)
    trials = lasting.remote()
    boxes = [{"box": _Box(numbered)} for numbered in enumerate(items)]
    data = ray.data.from_items(boxes, override_num_blocks=min(len(items), MOST_TASKS)).map_batches(
        _Worker,
        fn_constructor_args=(make, __version__, folder, trials),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(count, len(items)), max_tasks_in_flight_per_actor=2),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus or None,
    )
    try:
        for batch in data.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield from (box.item for box in batch["result"])
    except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise FacekitError(
            f"Ray could not keep the workers alive ({str(error).strip().splitlines()[0]}). Is there memory enough for "
            f"each?"
        ) from error
    except ray.exceptions.RayError as error:
        log.debug("Ray gave up", exc_info=error)
        what = str(error).strip().splitlines()[-1]
        raise FacekitError(f"Ray could not go on ({what}). Its logs say more; `resume` goes on from here.") from error
