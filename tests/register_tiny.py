"""A registration from files to a folder of results with a tiny model of any row of the SAM family.

python register_tiny.py NAME FOLDER
"""

import json
import sys
from pathlib import Path

from samreg import cli, phantoms
from samreg.io.writing import write_image
from tests.tiny_family import tiny


def main(name: str, folder: str | Path) -> None:
    """What must hold for every row; a random model finds no transform, but says so."""
    folder = Path(folder)
    weights = tiny(name, folder / "weights")
    phantom = phantoms.pair("rigid", fixed_grid=phantoms.grid("picture", 64), rotation_deg=4, translation_mm=10)
    for role in ("fixed", "moving"):
        volume = getattr(phantom, role)
        write_image(volume.voxels, volume.grid, folder / f"{role}.nii.gz")
    # A random model is sure of nothing, so nothing it proposes may be dropped for that.
    settings = {"proposals": {"proposer": "everything", "points_per_side": 6, "pred_iou": 0.0, "stability": 0.0}}
    (folder / "config.json").write_text(json.dumps(settings))
    out = folder / "out"
    images = [str(folder / f"{role}.nii.gz") for role in ("fixed", "moving")]
    options = ["--encoder", "sam", "--weights", str(weights), "--config", str(folder / "config.json")]
    code = cli.main(
        ["register", *images, "-o", str(out), "--transform", "rigid", "--quiet", "--device", "cpu", *options]
    )
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert code == (4 if report["status"] == "FAIL" else 0), report
    assert report["provenance"]["variant"] == name
    assert report["provenance"]["precision"] == "float32"
    assert len(report["hashes"]["weights"]) == 64
    assert {"transform.h5", "warped.nii.gz", "pairs.json", "report.html"} <= {path.name for path in out.iterdir()}


if __name__ == "__main__":
    main(*sys.argv[1:])
