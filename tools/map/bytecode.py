"""Byte code of what the application imports, written while its image is built.

Checked by no date: those of an image's files are all the same. Of what is never imported it would only take space.
"""

from __future__ import annotations

import py_compile
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from app.process import preload_cuda_runtime

LATER = ("transformers.models.sam", "transformers.models.sam_hq", "transformers.models.sam2")


def main() -> None:
    """Import everything but the training, and compile it."""
    preload_cuda_runtime()
    for name in ("app.application", "app.service"):
        import_module(name)
    for module in walk_packages(import_module("samreg").__path__, "samreg."):
        if not module.name.startswith("samreg.training") and not module.name.endswith("__main__"):
            import_module(module.name)
    for name in LATER:
        import_module(f"{name}.modeling_{name.rpartition('.')[2]}")
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    for file in sorted(name for name in files if name.endswith(".py") and Path(name).is_file()):
        py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


if __name__ == "__main__":
    main()
