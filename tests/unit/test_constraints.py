"""Constraints as they are given, read and measured; no image is registered here."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from samreg import ConstraintInputs
from samreg.constraint_checks import constraint_checks
from samreg.constraints.measuring import measured, why_constraints_break
from samreg.constraints.model import Constraints, Landmarks, counted_body, numbered, painted
from samreg.errors import InputRefused, UsageError
from samreg.estimation.base import Candidate
from samreg.examiner import PairExaminer
from samreg.geometry import Grid, Volume
from samreg.io import read_image
from samreg.io.writing import write_image
from samreg.transforms import Affine, DisplacementField, Rigid, about_centre

GRID = Grid.from_axes((20, 16, 10), (2.0, 2.0, 3.0), (-20.0, -16.0, 5.0))
FAR = Grid.from_axes((5, 5, 5), (1.0, 1.0, 1.0), (500.0, 0.0, 0.0))
HEADER = "name,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z,accuracy_mm"


def image(seed: int = 0) -> Volume:
    return Volume(np.random.default_rng(seed).normal(size=GRID.shape).astype(np.float32), GRID)


def block(*, value: int = 1) -> np.ndarray:
    labels = np.zeros(GRID.shape, np.int32)
    labels[6:12, 5:10, 3:7] = value
    return labels


def read(**given) -> Constraints:
    return ConstraintInputs(**given).read(image(0), image(1))


@pytest.fixture
def table(tmp_path):
    def write(*rows: str, header: str = HEADER):
        path = tmp_path / "pairs.csv"
        path.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
        return path

    return write


class TestLandmarkTables:
    def test_rows_are_read_with_their_accuracy_or_the_given_one(self, table):
        marks = read(landmarks=table("tip,0,0,8,1,1,9,0.5", "base,2,2,11,3,3,12,"), landmarks_accuracy_mm=2.0).landmarks
        np.testing.assert_array_equal(marks.fixed, [[0, 0, 8], [2, 2, 11]])
        np.testing.assert_array_equal(marks.moving, [[1, 1, 9], [3, 3, 12]])
        np.testing.assert_array_equal(marks.accuracy_mm, [0.5, 2.0])
        assert marks.names == ("tip", "base")

    def test_without_names_they_are_numbered_and_accurate_to_a_millimetre(self, table):
        columns = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"
        marks = read(landmarks=table("0,0,8,1,1,9", "1,0,8,1,1,9", header=columns)).landmarks
        assert marks.names == ("1", "2")
        np.testing.assert_array_equal(marks.accuracy_mm, [1.0, 1.0])

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("b,0,0,x,1,1,9,1", r"row 3 of '.*' is 'b,0,0,x,1,1,9,1'.*six finite numbers"),
            ("b,0,0,nan,1,1,9,1", "row 3.*six finite numbers"),
            ("b,0,0,inf,1,1,9,1", "row 3.*six finite numbers"),
            ("b,0,0,8,1,1,9,1,7", "row 3 of '.*' has 9 fields"),
            ("b,0,0,8,1,1", "row 3.*six finite numbers"),
            ("b,0,0,8,1,1,9,0", "row 3 of '.*' has the accuracy '0'"),
            ("b,0,0,8,1,1,9,nan", "row 3 of '.*' has the accuracy 'nan'"),
            ("b,0,0,8,1,1,9,fine", "row 3 of '.*' has the accuracy 'fine'"),
        ],
    )
    def test_a_malformed_row_is_refused_by_its_number(self, table, row, said):
        with pytest.raises(UsageError, match=f"(?i){said}"):
            read(landmarks=table("a,0,0,8,1,1,9,1", row))

    def test_rows_are_lines_of_the_file(self, table):
        with pytest.raises(UsageError, match=r"(?i)row 5 of .* is 'b,0"):
            read(landmarks=table("a,0,0,8,1,1,9,1", "", "", "b,0,0,x,1,1,9,1"))
        with pytest.raises(UsageError, match=r"(?i)row 4 of .* has the accuracy '-1'"):
            read(landmarks=table("a,0,0,8,1,1,9,1", "", "b,0,0,8,1,1,9,-1"))

    @pytest.mark.parametrize("column", ["accuracy", "note", "fixed_t"])
    def test_an_unknown_column_is_refused(self, table, column):
        with pytest.raises(UsageError, match=f"unknown column '{column}'.*accuracy_mm"):
            read(landmarks=table("tip,0,0,8,1,1,9,0.5", header=HEADER.replace("accuracy_mm", column)))

    def test_a_column_that_stands_twice_is_refused(self, table):
        with pytest.raises(UsageError, match="two columns 'accuracy_mm'"):
            read(landmarks=table("tip,0,0,8,1,1,9,1,2", header=f"{HEADER},Accuracy_mm"))

    def test_row_numbers_of_pandas_are_no_unknown_column(self, table):
        assert read(landmarks=table("0,0,0,8,1,1,9,1", header=HEADER.replace("name", ""))).landmarks.names == ("1",)

    @pytest.mark.parametrize(
        ("row", "role"), [("b,1,0,8,1,1,13,1", "fixed"), ("b,0,0,13,1,1,9,1", "moving")], ids=["fixed", "moving"]
    )
    def test_one_place_that_is_two_in_the_other_image_is_refused(self, table, row, role):
        path = table("", "a,0,0,8,1,1,9,1", row)
        with pytest.raises(InputRefused, match=r"'a' \(row 3 of .*'b' \(row 4 of") as refused:
            read(landmarks=path)
        assert refused.value.reason == "landmark-contradiction"
        assert f"same place of the {role} image" in refused.value.got

    def test_landmarks_in_memory_that_contradict_are_refused(self):
        fixed, moving = np.array([[0.0, 0, 8], [0, 0, 8]]), np.array([[0.0, 0, 8], [0, 0, 12]])
        with pytest.raises(InputRefused, match="The landmarks 'a' and 'b' lie"):
            read(landmarks=Landmarks(fixed, moving, np.ones(2), ("a", "b")))

    @pytest.mark.parametrize("row", ["b,0,0,8,1,1,9,1", "b,0,0,8,1,1,10.9,1", "b,0,0,11,1,1,16,1", "b,0,0,8,1,1,13,4"])
    def test_what_the_accuracies_allow_is_no_contradiction(self, table, row):
        assert len(read(landmarks=table("a,0,0,8,1,1,9,1", row)).landmarks.names) == 2

    def test_a_table_without_the_columns_is_refused(self, table):
        with pytest.raises(UsageError, match="columns named fixed_x"):
            read(landmarks=table("0,0,8", header="x,y,z"))
        with pytest.raises(UsageError, match="no header"):
            read(landmarks=table("0,0,8,1,1,9", header=""))

    @pytest.mark.parametrize(("row", "role"), [("tip,0,0,900,1,1,9,1", "fixed"), ("tip,0,0,8,1,1,900,1", "moving")])
    def test_a_point_outside_of_its_image_is_refused(self, table, row, role):
        said = rf"The {role} point .* of the landmark 'tip' \(row 3 of 'pairs.csv'\) lies outside"
        with pytest.raises(InputRefused, match=said) as refused:
            read(landmarks=table("a,0,0,8,1,1,9,1", row))
        assert refused.value.reason == "landmark-outside"

    @pytest.mark.parametrize("accuracy", [0, -1.0, float("nan"), "1", True, np.float32(0)])
    def test_an_accuracy_is_a_length(self, accuracy):
        with pytest.raises(UsageError, match="accuracy of the landmarks"):
            ConstraintInputs(landmarks="pairs.csv", landmarks_accuracy_mm=accuracy)

    @pytest.mark.parametrize("accuracy", [2, 2.0, np.float32(2), np.int64(2)])
    def test_an_accuracy_is_any_kind_of_number(self, table, accuracy):
        marks = read(landmarks=table("tip,0,0,8,1,1,9,"), landmarks_accuracy_mm=accuracy).landmarks
        np.testing.assert_array_equal(marks.accuracy_mm, [2.0])

    def test_an_accuracy_beside_those_of_landmarks_is_refused(self):
        marks = Landmarks(np.zeros((1, 3)), np.zeros((1, 3)), np.ones(1), ("a",))
        with pytest.raises(UsageError, match="beside `Landmarks`"):
            ConstraintInputs(landmarks=marks, landmarks_accuracy_mm=2.0)

    @pytest.mark.parametrize("landmarks", [np.ones((2, 6)), [[0, 0, 8, 1, 1, 9]], 7])
    def test_landmarks_of_another_type_are_refused(self, landmarks):
        with pytest.raises(UsageError, match=r"type .*Expected the path of a CSV file, or .*Landmarks"):
            ConstraintInputs(landmarks=landmarks)

    def test_an_accuracy_alone_is_refused(self):
        with pytest.raises(UsageError, match="without landmarks"):
            ConstraintInputs(landmarks_accuracy_mm=1.0)

    def test_landmarks_in_memory_are_checked(self):
        point = np.zeros((1, 3))
        with pytest.raises(UsageError, match="'moving' of 1 landmarks has the shape"):
            Landmarks(point, np.zeros((2, 3)), np.ones(1), ("a",))
        with pytest.raises(UsageError, match="'accuracy_mm' of the landmarks"):
            Landmarks(point, point, np.zeros(1), ("a",))
        with pytest.raises(UsageError, match="'fixed' of the landmarks"):
            Landmarks(point * np.nan, point, np.ones(1), ("a",))


MASKS = ("fixed_mask", "moving_mask", "keep_volume", "keep_rigid")


class TestMasks:
    @pytest.mark.parametrize("name", MASKS)
    def test_a_file_an_array_and_a_volume_are_the_same(self, name, tmp_path):
        write_image(block().astype(np.float32), GRID, tmp_path / "mask.nii.gz")
        for given in (tmp_path / "mask.nii.gz", str(tmp_path / "mask.nii.gz"), block(), Volume(block(), GRID)):
            mask = getattr(read(**{name: given}), name)
            ijk = GRID.index(mask.grid.lps(np.argwhere(mask.voxels > 0)))
            assert {tuple(v) for v in np.rint(ijk).astype(int)} == {tuple(v) for v in np.argwhere(block())}

    def test_a_mask_may_lie_on_a_grid_of_its_own(self):
        finer = GRID.with_spacing((1.0, 1.0, 1.5))
        values = np.ones(finer.shape, np.uint8)
        assert read(fixed_mask=Volume(values, finer)).fixed_mask.grid.shape == finer.shape

    @pytest.mark.parametrize("name", MASKS)
    def test_an_empty_mask_is_refused(self, name):
        with pytest.raises(InputRefused, match=r"mask.* cannot be used: the label map is empty") as refused:
            read(**{name: np.zeros(GRID.shape, np.uint8)})
        assert refused.value.reason == "no-labels"

    @pytest.mark.parametrize("name", MASKS)
    def test_a_mask_elsewhere_is_refused(self, name):
        with pytest.raises(InputRefused, match=r"No voxel of the .*mask.* lies within its image") as refused:
            read(**{name: Volume(np.ones(FAR.shape, np.uint8), FAR)})
        assert refused.value.reason == "mask-outside"

    @pytest.mark.parametrize("name", MASKS)
    def test_what_is_no_mask_at_all_is_refused(self, name):
        with pytest.raises(UsageError, match=r"The .*mask.* cannot be used: .* of type .*dict"):
            read(**{name: {"mask": 1}})

    @pytest.mark.parametrize("name", MASKS)
    def test_as_many_voxels_as_the_image_on_another_grid_are_refused(self, name, tmp_path):
        other = GRID.recentred(GRID.shape, (1.0, 1.0, 1.0))
        write_image(block().astype(np.float32), other, tmp_path / "mask.nii.gz")
        for given in (tmp_path / "mask.nii.gz", Volume(block(), other)):
            with pytest.raises(InputRefused, match=r"of 1 x 1 x 1 mm .*of 2 x 2 x 3 mm") as refused:
                read(**{name: given})
            assert refused.value.reason == "other-grid"

    def test_the_same_voxels_in_another_order_are_no_other_grid(self):
        affine = GRID.affine.copy()
        affine[:3, 0] *= -1
        affine[:3, 3] = GRID.lps(np.array([[GRID.shape[0] - 1, 0, 0]]))[0]
        mask = read(fixed_mask=Volume(block()[::-1], Grid(GRID.shape, affine))).fixed_mask
        np.testing.assert_array_equal(mask.voxels, block())
        assert mask.grid.same_as(GRID)

    def test_a_label_map_with_the_header_of_its_image_is_accepted(self, tmp_path):
        """Of a lone sform of unit voxels the stated spacing counts, in the image and in the mask."""
        for name, values in (("image", image().voxels), ("mask", block().astype(np.int16))):
            header = nibabel.Nifti1Header()
            header.set_data_shape(values.shape)
            header.set_data_dtype(values.dtype)
            file = nibabel.Nifti1Image(values, None, header)
            file.header.set_sform(np.eye(4), code=1)
            file.header.set_qform(None, code=0)
            file.header["pixdim"][1:4] = 2, 2, 3
            nibabel.save(file, tmp_path / f"{name}.nii.gz")
        fixed = read_image(tmp_path / "image.nii.gz")
        np.testing.assert_allclose(fixed.grid.spacing_mm, (2, 2, 3))
        mask = ConstraintInputs(fixed_mask=tmp_path / "mask.nii.gz").read(fixed, fixed).fixed_mask
        np.testing.assert_array_equal(mask.voxels, block())
        assert mask.grid.same_as(fixed.grid)

    @pytest.mark.parametrize("name", MASKS)
    def test_a_mask_that_lies_in_part_outside_is_refused(self, name):
        grid = GRID.padded(4.0)
        values = np.zeros(grid.shape, np.uint8)
        values[:10, 5:10, 4:8] = 1  # two of the ten planes lie before the image
        with pytest.raises(InputRefused, match=r"20% of the .*mask.* lies outside of its image") as refused:
            read(**{name: Volume(values, grid)})
        assert refused.value.reason == "mask-outside"
        values[:2] = 0
        assert getattr(read(**{name: Volume(values, grid)}), name) is not None

    @pytest.mark.parametrize("name", MASKS)
    def test_what_is_no_label_map_is_refused(self, name, tmp_path):
        (tmp_path / "mask.nii.gz").write_text("no image")
        with pytest.raises(InputRefused):
            read(**{name: tmp_path / "mask.nii.gz"})
        with pytest.raises(InputRefused, match="no labels") as refused:
            read(**{name: np.full(GRID.shape, 0.5)})
        assert refused.value.reason == "not-labels"

    def test_a_mask_of_specks_is_refused(self):
        specks = np.zeros(GRID.shape, np.int32)
        specks[::2, ::2, ::2] = 1
        with pytest.raises(InputRefused, match="400 separate regions") as refused:
            read(keep_rigid=specks)
        assert refused.value.reason == "too-many-regions"

    def test_regions_are_separate_by_gaps_and_by_labels(self):
        labels = block()
        labels[9:12, 5:10, 3:7] = 7  # touches the rest of the block
        labels[16:18, 12:14, 8:9] = 7
        regions = numbered(Volume(labels, GRID))
        sizes = sorted(int((regions.voxels == n).sum()) for n in range(1, regions.voxels.max() + 1))
        assert sizes == [4, 60, 60]
        assert regions.voxels.max() == 3

    @pytest.mark.parametrize("name", ["keep_volume", "keep_rigid"])
    def test_a_region_says_where_it_is_in_which_mask(self, name, tmp_path):
        labels = block(value=7)
        labels[16:18, 12:14, 8:9] = 4
        write_image(labels.astype(np.float32), GRID, tmp_path / "organs.nii.gz")
        one, two = getattr(read(**{name: tmp_path / "organs.nii.gz"}), name).each
        assert (one.label, one.mask, one.volume_mm3) == (4, "organs.nii.gz", 4 * 12)
        np.testing.assert_allclose(one.centre_lps_mm, GRID.lps(np.array([16.5, 12.5, 8])), atol=1e-3)
        assert (two.label, two.volume_mm3) == (7, 6 * 5 * 4 * 12)
        np.testing.assert_allclose(two.centre_lps_mm, GRID.lps(np.array([8.5, 7, 4.5])), atol=1e-3)
        assert getattr(read(**{name: labels}), name).each[0].mask == ""

    def test_nothing_outside_of_a_mask_is_left_in_a_painted_image(self):
        mask, one = Volume((block() > 0).astype(np.uint8), GRID), image()
        other = Volume(np.where(block() > 0, one.voxels, 1e6).astype(np.float32), GRID)
        np.testing.assert_array_equal(painted(one, mask).voxels, painted(other, mask).voxels)
        np.testing.assert_array_equal(painted(one, mask).voxels[block() > 0], one.voxels[block() > 0])

    def test_the_body_that_counts_is_what_lies_in_the_mask(self):
        body = np.zeros(GRID.shape, bool)
        body[:9] = True
        mask = Volume((block() > 0).astype(np.uint8), GRID)
        np.testing.assert_array_equal(counted_body(body, GRID, mask), body & (block() > 0))
        np.testing.assert_array_equal(counted_body(body, GRID, None), body)
        np.testing.assert_array_equal(counted_body(np.zeros(GRID.shape, bool), GRID, mask), block() > 0)


def regions() -> Volume:
    return numbered(Volume(block(), GRID))


def turned() -> Rigid:
    a = np.deg2rad(20)
    matrix = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return Rigid(about_centre(matrix, np.array([3.0, -2.0, 1.0]), GRID.centre_lps))


def scaled(factor: float) -> Affine:
    return Affine(about_centre(factor * np.eye(3), np.zeros(3), GRID.centre_lps))


class TestMeasures:
    def test_a_rigid_motion_keeps_all(self):
        constraints = Constraints(keep_volume=regions(), keep_rigid=regions())
        for region in measured(turned(), turned().inverse(), constraints).regions:
            assert region.volume_ratio == pytest.approx(1, abs=1e-4)
            assert region.most_mm < 1e-3
            assert region.volume_mm3 == 6 * 5 * 4 * 12
            assert region.met
        assert why_constraints_break(turned(), constraints) == ""

    def test_the_ratio_is_that_of_the_region_in_the_fixed_image(self):
        """The transform takes fixed points apart, so what is seen in the fixed image is smaller."""
        transform = scaled(1.1)
        (region,) = measured(transform, transform.inverse(), Constraints(keep_volume=regions())).regions
        assert region.volume_ratio == pytest.approx(1.1**-3, rel=1e-4)
        assert "75.1% of what it was" in why_constraints_break(transform, Constraints(keep_volume=regions()))

    def test_scaling_bends_what_stays_rigid_by_its_reach(self):
        points = regions().grid.lps(np.argwhere(regions().voxels > 0))
        farthest = np.linalg.norm(points - points.mean(0), axis=1).max()
        transform = scaled(1 / 1.1)
        (region,) = measured(transform, transform.inverse(), Constraints(keep_rigid=regions())).regions
        assert region.most_mm == pytest.approx(0.1 * farthest, rel=1e-3)
        assert "bends region 1" in why_constraints_break(transform, Constraints(keep_rigid=regions()))

    def test_landmarks_are_measured_before_and_after(self):
        marks = Landmarks(np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0]]), np.ones(1), ("tip",))
        constraints, shift = Constraints(landmarks=marks), np.eye(4)
        shift[:3, 3] = 3.0, 3.5, 0.0
        (mark,) = measured(Affine(shift), Affine(shift).inverse(), constraints).landmarks
        assert (mark.before_mm, mark.residual_mm, mark.met) == (5.0, 0.5, True)
        said = why_constraints_break(Affine.identity(), constraints)
        assert "1 of the landmarks are not met, at worst 'tip' (5 mm away" in said
        assert why_constraints_break(Affine.identity(), constraints, landmarks=False) == ""

    def test_a_field_without_an_inverse_respects_no_region(self):
        vectors = np.random.default_rng(0).uniform(-20, 20, (*GRID.shape, 3))
        said = why_constraints_break(DisplacementField(GRID, vectors), Constraints(keep_rigid=regions()))
        assert "no inverse" in said

    def test_the_quality_table_states_what_is_not_met(self):
        marks = Landmarks(np.zeros((2, 3)), np.array([[0.0, 0, 0.5], [9.0, 0, 0]]), np.ones(2), ("near", "far"))
        constraints = Constraints(landmarks=marks, keep_volume=regions(), keep_rigid=regions())
        lines = {line.name: line for line in constraint_checks(measured(scaled(1.1), scaled(1 / 1.1), constraints))}
        assert {line.verdict for line in lines.values()} == {"not met"}
        assert "far" in lines["landmarks"].note
        assert lines["keep-volume"].measured == pytest.approx(1.1**-3, rel=1e-4)
        respected = measured(turned(), turned().inverse(), Constraints(keep_rigid=regions()))
        assert [(line.name, line.verdict) for line in constraint_checks(respected)] == [("keep-rigid", "met")]

    def test_nothing_asked_is_nothing_said(self):
        assert not Constraints()
        assert list(constraint_checks(None)) == []


class TestExaminer:
    @pytest.fixture
    def examiner(self) -> PairExaminer:
        marks = Landmarks(np.zeros((1, 3)), np.array([[9.0, 0.0, 0.0]]), np.ones(1), ("tip",))
        constraints = Constraints(landmarks=marks, keep_volume=regions())
        working = SimpleNamespace(working=image())
        return PairExaminer(SimpleNamespace(constraints=constraints, fixed=working), min_pairs=4)

    def test_an_affine_that_breaks_a_constraint_is_flawed(self, examiner):
        assert "changes the volume of region 1" in examiner.flaw(Candidate(scaled(1.1), "x"), "affine")

    def test_a_rigid_transform_need_not_meet_landmarks_and_a_field_must(self, examiner):
        assert examiner.flaw(Candidate(turned(), "x"), "rigid") == ""
        still = DisplacementField(GRID, np.zeros((*GRID.shape, 3)))
        assert "landmarks are not met" in examiner.flaw(Candidate(still, "x"), "deformable")
