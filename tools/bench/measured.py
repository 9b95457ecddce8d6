"""What a command takes: wall time, processor time and peak memory.

A process inherits the peak memory of the one that starts it. So this file, which loads next to nothing, is itself run
as a program between the two.
"""

import json
import os
import subprocess
import sys
import time


def measured(
    command: list[str], log: str, limit_s: float, environment: dict[str, str] | None = None
) -> dict[str, float]:
    """Run a command to its end and say what it took, its own children included.

    Args:
        command: Program and arguments.
        log: File that receives what it prints.
        limit_s: Wall time after which it is ended, with its children.
        environment: Variables to set besides those of this process.

    Returns:
        `exit_code` (-9 where it was ended), `seconds`, `cpu_seconds` (user and system) and `peak_mb`.
    """
    between = [sys.executable, "-I", "-S", __file__, str(limit_s), log, *command]
    run = subprocess.run(between, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def _watch(limit_s: float, log: str, command: list[str]) -> dict[str, float]:
    started = time.perf_counter()
    with open(log, "wb") as out:  # noqa: PTH123 (pathlib would raise the peak memory of what is started)
        pid = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, out.fileno(), 2)],
            setpgroup=0,
        )
        ended = 0
        while not ended:
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if not ended and time.perf_counter() - started > limit_s:
                os.killpg(pid, 9)
                ended, status, usage = os.wait4(pid, 0)
            elif not ended:
                time.sleep(0.02)
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,  # KiB on Linux
    }


if __name__ == "__main__":
    print(json.dumps(_watch(float(sys.argv[1]), sys.argv[2], sys.argv[3:])))
