"""``hybridcore replay``: a trace through three tiers, again after a restart, and without them."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from hybridcore import __version__
from hybridcore.cli import UsageError, arguments
from hybridcore.cli.demo_origin import Served, Service
from hybridcore.cli.serve import a_port
from hybridcore.cli.trace import read_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridcore.cli import Subparsers
    from hybridcore.cli.run import Job, Result
    from hybridcore.cli.tables import Screen

WITHOUT_CACHE = 2_000
"""Requests that are replayed without a cache; none of them would teach more."""

ORIGINS = ("http", "github-sim", "redis", "s3-sim")

NEEDED = ("httpx", "rich", "starlette", "uvicorn")
NEEDED_FOR = {
    "redis": ("redis", "pip install hybridcore[redis]"),
    "s3-sim": ("obstore", "pip install hybridcore[objects] 'moto[s3,server]'"),
}
"""By origin: a module that it needs, and how to get it."""


@dataclass(frozen=True, slots=True)
class Column:
    """One run as it is shown: its title, its result, and what the origin counted meanwhile."""

    title: str
    result: Result
    served: Served


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a replay found out; what ``--json`` writes."""

    version: str
    python: str
    cpus: int | None
    trace: str
    requests: int
    distinct_keys: int
    memory: int | str
    disk: int
    workers: int
    origin: str
    service: Service
    runs: list[Column]


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "replay",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        help="replay a trace of requests through memory, disk and an origin",
        description="Replay a trace of requests through memory, disk and an origin that is "
        "started for it on loopback; then once more in a fresh process over the same disk tier, "
        "and, to compare, through memory alone and without a cache. Every value is checked.",
    )
    command.add_argument(
        "trace",
        nargs="?",
        type=Path,
        metavar="TRACE",
        help=".npz with an array 'keys', .csv with keys in the first column, or text with a key "
        "a line; by default the conversation trace that comes with hybridcore",
    )
    add = command.add_argument
    add(
        "--requests",
        type=arguments.a_count,
        default=15_000,
        metavar="N",
        help="replay the first N requests",
    )
    add(
        "--memory",
        type=arguments.a_memory,
        default=2_000,
        metavar="SIZE",
        help='size of the memory tier: entries, or bytes such as "64MiB"',
    )
    add(
        "--disk",
        type=arguments.a_size,
        default="1GiB",
        metavar="SIZE",
        help="size of the disk tier",
    )
    add(
        "--directory",
        type=Path,
        metavar="DIR",
        help="keep the disk tier in DIR/hybridcore-replay, emptied first; by default in a "
        "temporary directory",
    )
    add(
        "--origin",
        choices=ORIGINS,
        default="http",
        help="what is started and asked: a web service, a simulated GitHub with its quota, a "
        "redis-server, or a simulated S3",
    )
    add(
        "--latency",
        type=arguments.a_duration,
        default="5ms",
        metavar="TIME",
        help="the origin's median time to answer",
    )
    add(
        "--rate-limit",
        type=arguments.a_count,
        default=2_000,
        metavar="N",
        help="requests a second that the origin answers; it refuses more with 429",
    )
    add(
        "--ttl",
        type=arguments.a_duration,
        default="5s",
        metavar="TIME",
        help="how long one key in ten stays fresh; the others stay so for an hour",
    )
    add(
        "--workers",
        type=arguments.a_count,
        default=8,
        metavar="N",
        help="threads that share the requests",
    )
    add("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    add("--no-compare", action="store_true", help="leave out memory alone and no cache")
    add(
        "--serve",
        action="store_true",
        help="show the hybrid cache on a live page of this host, during the replay and after it",
    )
    add("--port", type=a_port, default=8420, help="of the page; 0: any that is free")
    add(
        "--serve-for",
        type=arguments.a_duration,
        metavar="TIME",
        help="how long the page stays after the replay; by default until Ctrl-C",
    )
    command.set_defaults(run=replay)


def replay(options: argparse.Namespace) -> int:
    """Carry out the command; returns 0, or 1 when a value was wrong or a request failed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"replay needs {', '.join(missing)}: pip install hybridcore[demo]")
    module, way = NEEDED_FOR.get(options.origin, (None, ""))
    if module is not None and find_spec(module) is None:
        raise UsageError(f"--origin {options.origin} needs {module}: {way}")
    if options.origin == "s3-sim" and find_spec("moto") is None:
        raise UsageError(f"--origin s3-sim needs moto: {way}")
    if options.serve_for is not None and not options.serve:
        raise UsageError("--serve-for is how long the page of --serve stays: give --serve, too")
    if options.origin == "redis" and shutil.which("redis-server") is None:
        raise UsageError("--origin redis needs redis-server, which is not installed")
    from hybridcore.cli.processes import RunFailedError
    from hybridcore.cli.tables import Screen

    screen = Screen()
    with ExitStack() as cleanup:
        try:
            report = _replay(options, screen, cleanup)
        except RunFailedError as error:
            raise UsageError(str(error)) from error
        screen.report(report)
        if options.json is not None:
            _write(options.json, report)
        results = [column.result for column in report.runs]
        for line in [line for result in results for line in result.errors][:5]:
            print(f"hybridcore: {line}", file=sys.stderr)
        if options.serve:
            screen.stays(options.serve_for)
            with suppress(KeyboardInterrupt):
                Event().wait(options.serve_for)
    return 1 if any(result.wrong or result.outcomes["failed"] for result in results) else 0


def _replay(options: argparse.Namespace, screen: Screen, cleanup: ExitStack) -> Report:
    from hybridcore.cli.origins import DEMOS
    from hybridcore.cli.processes import demo_origin
    from hybridcore.cli.run import Job
    from hybridcore.monitoring.watched import PUBLISHED

    trace = read_trace(options.trace, options.requests)
    service = Service(
        latency=options.latency,
        brief_age=max(1, round(options.ttl)),
        rate=options.rate_limit,
        keys=max(map(int, trace.keys)) + 1 if trace.numbered else None,
    )
    report = Report(
        version=__version__,
        python=platform.python_version(),
        cpus=os.cpu_count(),
        trace=trace.name,
        requests=len(trace.keys),
        distinct_keys=len(set(trace.keys)),
        memory=options.memory,
        disk=options.disk,
        workers=options.workers,
        origin=options.origin,
        service=service,
        runs=[],
    )
    directory = _emptied(options.directory, cleanup)
    if options.json is not None:
        _write(options.json, report)  # a file that cannot be written is told before the work
    more = []
    if options.origin != "http":
        files = Path(cleanup.enter_context(tempfile.TemporaryDirectory())) / "keys.json"
        files.write_text(json.dumps(sorted(set(trace.keys))))
        more = ["--files", str(files)]
    module = DEMOS[options.origin].module
    url = cleanup.enter_context(demo_origin(service, module, *more))
    screen.plan(report, directory)
    job = Job(
        contender="hybrid",
        origin=options.origin,
        trace=None if options.trace is None else str(options.trace),
        requests=report.requests,
        service=service,
        url=url,
        memory=options.memory,
        disk=options.disk,
        directory=str(directory),
        workers=options.workers,
    )
    if options.serve:
        screen.page(cleanup.enter_context(_page(directory, options)))
        job = replace(job, published=str(directory / PUBLISHED))
    plan = [("hybrid, cold", job), ("hybrid, warm", replace(job, stays=options.serve))]
    if not options.no_compare:
        alone = "lru_cache" if isinstance(options.memory, int) else "memory alone"
        few = min(report.requests, WITHOUT_CACHE)
        plan.append((alone, replace(job, contender="memory")))
        plan.append(("no cache", replace(job, contender="none", requests=few)))
    for title, job in plan:
        report.runs.append(_run(title, job, url, screen, cleanup))
    return report


def _run(title: str, job: Job, url: str, screen: Screen, cleanup: ExitStack) -> Column:
    from hybridcore.cli.processes import run_apart

    before = _served(url)
    with screen.progress(title, job.requests) as progress, ExitStack() as at_once:
        until = cleanup if job.stays else at_once
        result = until.enter_context(run_apart(job, progress))
    after = _served(url)
    counted = {name: count - asdict(before)[name] for name, count in asdict(after).items()}
    return Column(title, result, Served(**counted))


@contextmanager
def _page(directory: Path, options: argparse.Namespace) -> Iterator[str]:
    """A page of the disk tier to be; gives its address."""
    from hybridcore import Lmdb
    from hybridcore.cli.serve import watching
    from hybridcore.web.server import serving

    Lmdb(directory, max_bytes=options.disk).close()  # what there is not cannot be watched
    watcher = watching([directory], interval=1.0)
    try:
        with serving(watcher, "127.0.0.1", options.port) as address:
            yield address
    except OSError as error:
        place = f"127.0.0.1:{options.port}"
        raise UsageError(f"cannot listen on {place}: {error.strerror}; try --port 0") from error
    finally:
        watcher.close()


def _served(url: str) -> Served:
    import msgspec

    with urllib.request.urlopen(f"{url}/_stats") as reply:  # noqa: S310  # our own loopback
        return msgspec.json.decode(reply.read(), type=Served)


def _emptied(parent: Path | None, cleanup: ExitStack) -> Path:
    """Return an empty place for the disk tier; one that the user did not name is removed."""
    if parent is None:
        parent = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="hybridcore-")))
    directory = parent / "hybridcore-replay"
    try:
        if directory.is_symlink():
            raise UsageError(f"{directory} is a symbolic link, which is not emptied: remove it")
        if directory.exists():
            shutil.rmtree(directory)
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot use the directory {parent}: {error.strerror}") from error
    return directory


def _write(path: Path, report: Report) -> None:
    import msgspec

    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
