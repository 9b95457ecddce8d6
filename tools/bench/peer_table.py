"""The peers and their settings, which follow what each program's authors publish for the kind of image."""

from __future__ import annotations

from tools.bench.methods import Peer

GREEDY = {
    "metric": "NCC 4x4x4",
    "iterations": "100x50x10",
    "smooth": "2vox 0.5vox",
    "velocity": True,
    "affine": False,
    "affine_metric": "NCC 4x4x4",
}
GREEDY_SPECIAL = {
    # A third level would leave fewer than the four slices that its filters need.
    "stack": {"metric": "NCC 2x2x2", "affine_metric": "NCC 2x2x2", "iterations": "200x100"},
    "picture": {"metric": "NCC 4x4", "affine_metric": "NCC 4x4"},
}

PEERS: tuple[Peer, ...] = (
    Peer(
        "SimpleITK demons",
        "simpleitk",
        "simpleitk_demons.py",
        {
            "forces": "diffeomorphic",
            "levels": [4, 2, 1],
            "iterations": [60, 60, 30],
            "sigma_vox": 1.5,
            "update_vox": 0.0,
        },
    ),
    Peer(
        "SimpleITK B-spline",
        "simpleitk",
        "simpleitk_bspline.py",
        {
            "metric": "correlation",
            "knots_mm": 8.0,
            "levels": [4, 2, 1],
            "iterations": 30,
            "sampling": 0.25,
            "affine": False,
        },
        {
            "stack": {"knots_mm": 20.0, "iterations": 20, "sampling": 0.1},
            "other contrast": {"metric": "mutual information"},
        },
    ),
    Peer(
        "ANTs SyN",
        "antspy",
        "antspy_syn.py",
        {"kind": "SyN", "metric": "CC", "radius": 2, "iterations": [40, 20, 10]},
        {"stack": {"metric": "mattes", "radius": 32, "iterations": [40, 20, 0]}},
    ),
    Peer("greedy", "greedy", "greedy_field.py", GREEDY, GREEDY_SPECIAL),
    Peer("greedy after its affine", "greedy", "greedy_field.py", GREEDY | {"affine": True}, GREEDY_SPECIAL),
    Peer(
        "ConvexAdam",
        "convexadam",
        "convexadam_mind.py",
        {"grid_sp": 6, "disp_hw": 4, "lambda_weight": 1.25, "niter": 80, "cubic": True},
    ),
    Peer(
        "elastix",
        "elastix",
        "elastix_bspline.py",
        {
            "metric": "AdvancedMattesMutualInformation",
            "knots_mm": 10.0,
            "levels": 3,
            "iterations": 250,
            "samples": 2048,
            "affine": False,
        },
        {"picture": {"affine": True}},
    ),
    Peer(
        "NiftyReg",
        "niftyreg",
        "niftyreg_f3d.py",
        {
            "metric": ["--lncc", "5.0"],
            "knots": ["-5", "-5", "-5"],
            "velocity": False,
            "levels": 3,
            "iterations": 300,
            "bending": 0.001,
            "affine": False,
        },
        {"stack": {"metric": ["--nmi"]}, "picture": {"knots": ["-5", "-5"]}},
    ),
    Peer(
        "FireANTs",
        "fireants",
        "fireants_greedy.py",
        {
            "metric": "cc",
            "kernel": 7,
            "scales": [4, 2, 1],
            "iterations": [100, 50, 20],
            "rate": 0.5,
            "grad_sigma": 1.0,
            "warp_sigma": 0.5,
            "affine": False,
        },
    ),
)
