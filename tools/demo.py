"""`make demo`: register a phantom pair of DICOM series, or one's own, and say how well it went."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from samreg import cli


def main() -> int:
    """Run the demo; returns the exit code of `samreg register`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixed", type=Path, help="image of your own")
    parser.add_argument("--moving", type=Path, help="image of your own")
    parser.add_argument("--out", type=Path, default=Path("demo/out"))
    args = parser.parse_args()
    if (args.fixed is None) != (args.moving is None):
        parser.error("give both FIXED and MOVING, or neither")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.fixed is not None:
        return _register(args.fixed, args.moving, args.out)
    return _phantom(args.out)


def _phantom(out: Path) -> int:
    from samreg import phantoms
    from samreg.transforms import Affine
    from samreg.transforms.files import read_transform

    print("A phantom pair with a known deformation, as two DICOM series …")
    phantom = phantoms.pair("deformable", seed=1)
    fixed, moving = phantoms.write_dicom_study(phantom, out.with_name("series"))
    code = _register(fixed, moving, out)
    if (out / "transform.h5").is_file():
        before = phantom.errors_mm(Affine.identity(), seen_only=True)
        after = phantom.errors_mm(read_transform(out / "transform.h5"), seen_only=True)
        print(f"True error in the body before: mean {before.mean():.2f} mm, largest {before.max():.2f} mm")
        print(f"True error in the body after:  mean {after.mean():.2f} mm, largest {after.max():.2f} mm")
    return code


def _register(fixed: Path, moving: Path, out: Path) -> int:
    print(f"samreg register {fixed} {moving} -o {out}", flush=True)
    code = cli.main(["register", str(fixed), str(moving), "-o", str(out)])
    if (out / "report.html").is_file():
        print(f"Report: {(out / 'report.html').resolve()}")
    return code


if __name__ == "__main__":
    sys.exit(main())
