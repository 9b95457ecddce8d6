"""What Holoscan needs of the process before it can be imported."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import resource
import signal
import sys
import threading
from pathlib import Path

STOPPED = 128 + signal.SIGTERM
STACK_BYTES = 32 * 1024 * 1024
_PREPARED = "SAMREG_APP_PREPARED"


def map_extra_missing() -> str:
    """A sentence that says what is missing and how to get it; empty if nothing is."""
    if importlib.util.find_spec("holoscan") and importlib.util.find_spec("monai.deploy"):
        return ""
    return "The MONAI Deploy SDK is not installed. Expected the extra 'map'. Run: pip install 'samreg[map]'."


def enlarge_stack() -> None:
    """Start the process anew with the stack that Holoscan asks for, where the system allows it.

    A running process cannot change the stack of the threads it will start.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    small = soft != resource.RLIM_INFINITY and soft < STACK_BYTES
    allowed = hard == resource.RLIM_INFINITY or hard >= STACK_BYTES
    if small and allowed and _PREPARED not in os.environ:
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))
        os.environ[_PREPARED] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def preload_cuda_runtime() -> None:
    """Load the CUDA runtime of the `nvidia-cuda-runtime` wheel: Holoscan links it even on a CPU."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for library in Path(folder).glob("cu*/lib/libcudart.so.*"):
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def end_on_sigterm() -> None:
    """Have a thread wait for SIGTERM that leaves the reason in the output folder, and ends the process with 143.

    A handler would not do: the main thread is in Holoscan, and the first process of a container ignores a signal that
    nothing waits for.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        try:
            if service := sys.modules.get("app.service"):
                service.stopped()
        finally:
            os._exit(STOPPED)

    threading.Thread(target=wait, daemon=True, name="sigterm").start()
