"""The command, as `python -m samreg`."""

from samreg.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
