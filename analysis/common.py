"""What needs nothing but Python: the error all scripts raise, and the program they ask for what only it knows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

KIND = ("protocol", "scorer", "moment")  # what two numbers must share to stand in one average or on one axis


class ResultsError(Exception):
    """Something about the input, in one message that a user can act on. Scripts print it and exit with status 1."""


def guarded(work: Callable[[], int]) -> int:
    """Runs a script: what is wrong with its input ends as one line and exit status 1."""
    try:
        return work()
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def find_lemoe_run() -> str | None:
    """The program: $LEMOE_RUN, the PATH, or the build of the checkout these scripts lie in."""
    built = Path(__file__).resolve().parent.parent / "build" / "release" / "lemoe-run"
    return os.environ.get("LEMOE_RUN") or shutil.which("lemoe-run") or (str(built) if built.is_file() else None)


def ask_lemoe_run(*arguments: str) -> str:
    """What the program prints; ResultsError when there is none or it refuses."""
    program = find_lemoe_run()
    if program is None:
        raise ResultsError("lemoe-run is not on PATH; build it, or name it in the environment variable LEMOE_RUN")
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResultsError(f"{program} {' '.join(arguments)}: {error}") from error
    if done.returncode != 0:
        raise ResultsError(f"{program} {' '.join(arguments)}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def live_status(folder: Path) -> dict[str, str]:
    """run id -> status from the journals, which alone know a lost run from a running one."""
    text = ask_lemoe_run("--status", str(folder), "--json")
    try:
        return {row["id"]: row["status"] for row in json.loads(text)}
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"lemoe-run --status {folder} --json: not understood ({error})") from error
