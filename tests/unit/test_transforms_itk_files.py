"""Every class of ITK in every kind of its files: mapped as ITK maps it, or refused by name."""

import base64
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from samreg.errors import InputRefused
from samreg.transforms import Rigid, read_transform

CENTRE = (10.0, -20.0, 30.0)
SHIFT = (4.0, 5.0, -6.0)
VERSOR = (0.1, 0.2, -0.3)
MATRIX = (1.1, 0.1, 0.0, 0.05, 0.9, -0.05, 0.0, 0.02, 1.05)
ANGLES = (0.3, -0.2, 0.9)
SUFFIXES = (".tfm", ".txt", ".mat", ".h5", ".hdf5")
# Written by ITK 5.4.7: twice the same translation, in a list.
LIST_H5 = zlib.decompress(base64.b85decode(
    "c-rgqaB<`1lHy|G;9!7(|4=YN0m3(cikGjhIOy-;62zpC-_Mhcj4POgkTt>p7ZU>`0|T2V1CZkK4Dk+2Eh^5;&pQk?4=Mq40aW5XBSb<#fPv"
    "u|D}-&ufDki=iYdUI`Yy@51neY5bSE(|GKw%TFfjrFR4t5V7GYqN1abrzAQ&Rf!N3Z1Ei)4b&?n4{4A9UJfLXMGVaNfVvWG8e5jFx6LqBW|)"
    "!nnBMc60|gRluYrp!f)urU}0VH4ugBH-`r;msxj@*}5zFtp?nXMxC@EJ<l3r-<YM8OLa#zy>WDA$-FQDX6^`<U2Y2?T*V}CkukiWb+U9OUzC"
    "E%>=bb5+ukMQk0lioR(jd>t2*!S`Z8^X1@j2-6h8}5+E~q;bw+Z7Nl;5c}y83Cjpmp%dALE2}mpgI;jL0k^vHk!u~uvgssJZl-AyGByOZd+H"
    "@EOX>;xR1+w6XmIL`w7#_xm;LVYQs4P}Zp90kcifRE4M1Z+F`};5=g#;s#IuJ0`Gtn~#($Mt7AOod=mAI)wPG(Y3Vo{|+86;C!DH!S*8tEB="
    "BLU4EpUk|{3Lp*5Hw^qx+Dy;TLeIoRH!WGW%*@OZu3jFN0YSdXNh|>x5BFevN`7flPHMbyyfFhCiRxiMfS+L$jDk@x3P!;w7zLwX6pVsVFbY"
    "P&C>Sw725CHi32l6U8QM>W@mZk#Y#1M;meAk~x_zL*89@bm=y<yWg9$f-$$y|l;K3O#$lwfYcnPj)2oBB|P8a=4C~RP3B+Mj)O@IPKt;7%x8"
    "@m@W+o&|oC@l>!lE65lIds?xG|reW2VtX(Gp2W}Gor;fV+J(3hVnS0(V5eu*__VVykZz+^FNofXW$>74wi+etk=1hF<KQ5VIbfDp+%sy!~x`"
    "X0vjH600+o_d;"
))  # fmt: skip


def itk(kind: str, parameters: tuple[float, ...], fixed: tuple[float, ...] = CENTRE) -> SimpleITK.Transform:
    transform = SimpleITK.Transform(3, getattr(SimpleITK, f"sitk{kind}"))
    if fixed:
        transform.SetFixedParameters(fixed)
    transform.SetParameters(parameters)
    return transform


def field(seed: int = 0) -> SimpleITK.Transform:
    vectors = np.random.default_rng(seed).uniform(-4, 4, (7, 6, 5, 3)).astype(np.float32).astype(np.float64)
    image = SimpleITK.GetImageFromArray(vectors, isVector=True)
    image.SetSpacing((40.0, 50.0, 60.0))
    image.SetOrigin((100.0, -120.0, -150.0))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    return SimpleITK.DisplacementFieldTransform(image)


def composite(*parts: SimpleITK.Transform) -> SimpleITK.Transform:
    return SimpleITK.CompositeTransform(list(parts))


TRANSFORMS = {
    "identity": itk("Identity", (), ()),
    "translation": itk("Translation", SHIFT, ()),
    "scale": itk("Scale", (1.1, 0.9, 1.3)),
    "logarithmic scale": itk("ScaleLogarithmic", (0.1, -0.1, 0.2)),
    "euler": itk("Euler", ANGLES + SHIFT, (*CENTRE, 0.0)),
    "euler, z y x": itk("Euler", ANGLES + SHIFT, (*CENTRE, 1.0)),
    "versor": itk("Versor", VERSOR),
    "versor rigid": itk("VersorRigid", VERSOR + SHIFT),
    "quaternion": itk("QuaternionRigid", (0.1, 0.2, 0.3, float(np.sqrt(0.86)), *SHIFT)),
    "similarity": itk("Similarity", (*VERSOR, *SHIFT, 1.2)),
    "scale versor": itk("ScaleVersor", (*VERSOR, *SHIFT, 1.1, 0.9, 1.2)),
    "scale skew versor": itk("ScaleSkewVersor", (*VERSOR, *SHIFT, 1.1, 0.9, 1.2, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06)),
    "affine": itk("Affine", MATRIX + SHIFT),
    "field": field(),
    "composite": composite(itk("Scale", (1.1, 0.9, 1.3)), itk("Affine", MATRIX + SHIFT)),
    "field within": composite(itk("Affine", MATRIX + SHIFT), field(), itk("Similarity", (*VERSOR, *SHIFT, 1.2))),
    "two fields": composite(field(1), itk("Euler", ANGLES + SHIFT, (*CENTRE, 1.0)), field(2), itk("Versor", VERSOR)),
    "one field": composite(field()),
}


def points() -> np.ndarray:
    return np.random.default_rng(1).uniform(-150, 150, (40, 3))


def mapped(transform: SimpleITK.Transform) -> np.ndarray:
    return np.array([transform.TransformPoint(tuple(p)) for p in points()])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_points_go_where_itk_takes_them(tmp_path: Path, name: str, suffix: str):
    transform, path = TRANSFORMS[name], tmp_path / f"a{suffix}"
    SimpleITK.WriteTransform(transform, str(path))
    if suffix == ".mat" and isinstance(transform, SimpleITK.CompositeTransform):
        with pytest.raises(InputRefused, match="CompositeTransform"):
            read_transform(path)
        return
    # Vectors are kept in single precision.
    assert np.abs(read_transform(path).map_points(points()) - mapped(transform)).max() < 1e-6


def block(kind: str, parameters: tuple[float, ...], fixed: tuple[float, ...] = CENTRE) -> str:
    numbers = (" ".join(map(repr, values)) for values in (parameters, fixed))
    return "#Transform 0\nTransform: {}\nParameters: {}\nFixedParameters: {}\n".format(kind, *numbers)


def text(*blocks: str) -> str:
    return "#Insight Transform File V1.0\n" + "".join(blocks)


COMPOSITE = "#Transform 0\nTransform: CompositeTransform_double_3_3\n"
SHIFTED = block("TranslationTransform_double_3_3", SHIFT, ())
# Where ITK 5.4.7 takes (1, 2, 3).
AFFINE_TO = (6.3, 5.7, -3.91)
OTHERS = {
    "MatrixOffsetTransformBase_double_3_3": (MATRIX + SHIFT, AFFINE_TO),
    "MatrixOffsetTransformBase_float_3_3": (MATRIX + SHIFT, AFFINE_TO),
    "AffineTransform_float_3_3": (MATRIX + SHIFT, AFFINE_TO),
    "ScalableAffineTransform_double_3_3": (MATRIX + SHIFT, AFFINE_TO),
    "FixedCenterOfRotationAffineTransform_double_3_3": (MATRIX + SHIFT, AFFINE_TO),
    "CenteredAffineTransform_double_3_3": (MATRIX + CENTRE + SHIFT, AFFINE_TO),
    "CenteredEuler3DTransform_double_3_3": (
        ANGLES + CENTRE + SHIFT,
        (-11.151629935159093, 0.54648061642174, 3.513359180967902),
    ),
    "ComposeScaleSkewVersor3DTransform_double_3_3": (
        (*VERSOR, *SHIFT, 1.1, 0.9, 1.2, 0.01, 0.02, 0.03),
        (7.713181129493481, 15.448412994030535, 0.5066690391848439),
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_classes_that_simpleitk_has_not_are_mapped_as_itk_maps_them(tmp_path: Path, kind: str):
    parameters, expected = OTHERS[kind]
    (tmp_path / "a.tfm").write_text(text(block(kind, parameters)))
    assert np.abs(read_transform(tmp_path / "a.tfm").map_points([[1.0, 2, 3]]) - expected).max() < 1e-9
    # Applied first, a shift and a field after it; as text and as HDF5.
    (tmp_path / "b.tfm").write_text(text(COMPOSITE, SHIFTED, block(kind, parameters)))
    whole = SimpleITK.ReadTransform(str(tmp_path / "b.tfm"))
    SimpleITK.WriteTransform(whole, str(tmp_path / "b.h5"))
    for name in ("b.tfm", "b.h5"):
        assert np.abs(read_transform(tmp_path / name).map_points(points()) - mapped(whole)).max() < 1e-9
    SimpleITK.WriteTransform(field(), str(tmp_path / "field.tfm"))
    between = (tmp_path / "field.tfm").read_text().partition("\n")[2]
    (tmp_path / "c.tfm").write_text(text(COMPOSITE, block(kind, parameters), between, block(kind, parameters)))
    whole = SimpleITK.ReadTransform(str(tmp_path / "c.tfm"))
    SimpleITK.WriteTransform(whole, str(tmp_path / "c.h5"))
    for name in ("c.tfm", "c.h5"):
        assert np.abs(read_transform(tmp_path / name).map_points(points()) - mapped(whole)).max() < 1e-6


def test_older_euler_angles_have_no_order_of_rotations(tmp_path: Path):
    (tmp_path / "a.tfm").write_text(text(block("Euler3DTransform_double_3_3", ANGLES + SHIFT)))
    expected = mapped(TRANSFORMS["euler"])
    assert np.abs(read_transform(tmp_path / "a.tfm").map_points(points()) - expected).max() < 1e-9


def vector(name: str, values: tuple[float, ...], order: str = "<", dtype: str = "f8", layout: int = 0) -> bytes:
    kind = layout + (1000 if order == ">" else 0) + (10 if dtype == "f4" else 0)
    header = struct.pack(order + "5i", kind, len(values), 1, 0, len(name) + 1)
    return header + name.encode() + b"\0" + np.array(values, order + dtype).tobytes()


@pytest.mark.parametrize(("order", "dtype"), [("<", "f8"), ("<", "f4"), (">", "f8"), (">", "f4")])
def test_matlab_files_of_either_byte_order_and_precision(tmp_path: Path, order: str, dtype: str):
    name = "AffineTransform_float_3_3"
    parts = [vector(name, MATRIX + SHIFT, order, dtype, 100), vector("fixed", CENTRE, order)]
    (tmp_path / "a.mat").write_bytes(b"".join(parts))
    expected = mapped(TRANSFORMS["affine"])
    assert np.abs(read_transform(tmp_path / "a.mat").map_points(points()) - expected).max() < 1e-4


def test_a_rigid_composite_is_rigid(tmp_path: Path):
    SimpleITK.WriteTransform(composite(TRANSFORMS["euler"], TRANSFORMS["versor rigid"]), str(tmp_path / "a.h5"))
    assert isinstance(read_transform(tmp_path / "a.h5"), Rigid)


def write(content: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def written(transform: SimpleITK.Transform) -> Callable[[Path], None]:
    return lambda path: SimpleITK.WriteTransform(transform, str(path))


def as_other(transform: SimpleITK.Transform, suffix: str) -> Callable[[Path], None]:
    def under_another_name(path: Path) -> None:
        SimpleITK.WriteTransform(transform, str(path.with_suffix(suffix)))
        path.with_suffix(suffix).rename(path)

    return under_another_name


AFFINE = block("AffineTransform_double_3_3", MATRIX + SHIFT)
FIELD_GRID = (2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TWO = vector("AffineTransform_double_3_3", MATRIX + SHIFT) + vector("fixed", CENTRE)
REFUSED = {
    "list.tfm": (write(text(AFFINE, AFFINE)), "list of 2"),
    "list.txt": (write(text(*[AFFINE] * 40)), "list of 40"),
    "list.mat": (write(TWO + TWO), "list of 2"),
    "list.h5": (write(LIST_H5), "list of 2"),
    "nested.tfm": (write(text(COMPOSITE, SHIFTED, COMPOSITE, AFFINE)), "composite inside another"),
    "without-parts.tfm": (write(text(COMPOSITE)), "without parts"),
    "other-files.tfm": (write(text(COMPOSITE, "ComponentTransformFile: a.tfm\n")), "other files"),
    "cut-before-part.tfm": (write(text(COMPOSITE, SHIFTED, "#Transform 2\n")), "ends before"),
    "bspline.tfm": (written(SimpleITK.BSplineTransform(3, 1)), "BSplineTransform_double_3_3"),
    "bspline.mat": (written(SimpleITK.BSplineTransform(3, 2)), "BSplineTransform_double_3_3"),
    "bspline.h5": (written(composite(SimpleITK.BSplineTransform(3, 3), field())), "BSplineTransform_double_3_3"),
    "flat.tfm": (written(SimpleITK.Similarity2DTransform()), "2D"),
    "flat.mat": (written(SimpleITK.AffineTransform(2)), "2D"),
    "flat.h5": (written(SimpleITK.CompositeTransform([SimpleITK.Euler2DTransform()])), "2D"),
    "azimuth.txt": (write(text(block("AzimuthElevationToCartesianTransform_double_3_3", (0.0,) * 12))), "Azimuth"),
    "spline.txt": (write(text(block("ThinPlateSplineKernelTransform_double_3_3", (), ()))), "ThinPlateSpline"),
    "inverse.tfm": (write(text(block("InverseDisplacementFieldTransform_double_3_3", (), ()))), "InverseDisplacement"),
    "exponential.tfm": (write(text(block("GaussianExponentialDiffeomorphicTransform_double_3_3", (), ()))), "Gaussian"),
    "perspective.tfm": (write(text(block("Rigid3DPerspectiveTransform_double_3_2", (0.0,) * 6, ()))), "Perspective"),
    "mirror.h5": (written(itk("Scale", (-1.0, 1.0, 1.0))), "determinant"),
    "mirror.mat": (written(itk("Affine", (-1.0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0))), "determinant"),
    "nan.h5": (written(itk("Translation", (np.nan, 0.0, 0.0), ())), "not finite"),
    "nan.tfm": (write(text(block("TranslationTransform_double_3_3", (float("nan"), 0.0, 0.0), ()))), "not finite"),
    "infinite.mat": (write(vector("TranslationTransform_double_3_3", (np.inf, 0, 0)) + vector("fixed", ())), "finite"),
    "few.tfm": (write(text(block("VersorRigid3DTransform_double_3_3", VERSOR))), "3 numbers"),
    "many.tfm": (write(text(block("VersorTransform_double_3_3", VERSOR + SHIFT))), "6 numbers"),
    "few.mat": (write(vector("AffineTransform_double_3_3", SHIFT) + vector("fixed", CENTRE)), "3 numbers"),
    "no-centre.tfm": (write(text(block("AffineTransform_double_3_3", MATRIX + SHIFT, ()))), "0 fixed numbers"),
    "no-fixed.tfm": (write(text(AFFINE.partition("Fixed")[0])), "without fixed"),
    "no-fixed.mat": (write(vector("AffineTransform_double_3_3", MATRIX + SHIFT)), "without fixed"),
    "twice.tfm": (write(text(AFFINE, "Parameters: 1 2 3\n")), "Parameters: 1 2 3"),
    "word.tfm": (write(text(AFFINE.replace("1.1", "l.1"))), "l.1"),
    "small-field.tfm": (write(text(block("DisplacementFieldTransform_double_3_3", SHIFT, FIELD_GRID))), "3 numbers"),
    "no-grid.tfm": (write(text(block("DisplacementFieldTransform_double_3_3", SHIFT, CENTRE))), "grid"),
    "fsl.mat": (write("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"), "bare matrix"),
    "niftyreg.txt": (write("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"), "bare matrix"),
    "matlab5.mat": (write(b"MATLAB 5.0 MAT-file" + bytes(200)), "MATLAB 5"),
    "text.mat": (write(text(AFFINE)), "no MATLAB file"),
    "text.h5": (write(text(AFFINE)), "HDF5"),
    "hdf5.tfm": (as_other(TRANSFORMS["affine"], ".h5"), "text"),
    "hdf5.mat": (as_other(TRANSFORMS["affine"], ".h5"), "MATLAB"),
    "elastix.txt": (write('(Transform "EulerTransform")\n'), "elastix"),
    **{f"empty{suffix}": (write(b""), "is empty") for suffix in SUFFIXES},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name_with_a_way_out(tmp_path: Path, name: str):
    make, word = REFUSED[name]
    make(tmp_path / name)
    with pytest.raises(InputRefused) as refused:
        read_transform(tmp_path / name)
    assert word in refused.value.got
    assert refused.value.expected
    assert refused.value.reason.startswith("transform-")
    assert refused.value.next_step


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_file_is_never_read(tmp_path: Path, suffix: str):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    SimpleITK.WriteTransform(TRANSFORMS["euler"], str(whole))
    data = whole.read_bytes()
    for length in (*range(64), *range(64, len(data), max(1, len(data) // 200))):
        cut.write_bytes(data[:length])
        with pytest.raises(InputRefused):
            read_transform(cut)


@pytest.mark.parametrize("name", ["versor", "field within"])
def test_a_damaged_hdf5_file_is_refused_or_its_numbers_are_others(tmp_path: Path, name: str):
    whole, damaged = tmp_path / "whole.h5", tmp_path / "damaged.h5"
    SimpleITK.WriteTransform(TRANSFORMS[name], str(whole))
    data = whole.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    # The names and the pointers to them among others: damage there ends SimpleITK itself.
    places = [data.index(b"GCOL"), data.index(b"_double_3_3"), *rng.integers(len(data), size=150)]
    for at in places:
        length = int(rng.integers(1, 64))
        damaged.write_bytes(data[:at] + bytes(length) + data[at + length :])
        try:
            assert np.isfinite(read_transform(damaged).map_points(points())).all()
        except InputRefused:
            refused += 1
    assert refused > 10
