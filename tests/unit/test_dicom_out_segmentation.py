"""SEG: masks, numbers, tracking, and where the frames lie."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from samreg import phantoms
from samreg.dicom_out import objects, verify_segmentation, write_objects
from samreg.dicom_out.readback import read_segments
from samreg.errors import OutputInvalid
from samreg.geometry import Volume
from samreg.io import read_image
from samreg.rois import Roi, RoiPair, RoiPairs
from tests.dicom_results import invented_pairs, result_of, rigid, small_series
from tests.dicom_series import small_volume, write_enhanced


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Volume, Volume]:
    folder = tmp_path_factory.mktemp("series")
    return small_series(folder / "fixed", 0), small_series(folder / "moving", 1)


def segmentations(fixed: Volume, moving: Volume, folder: Path, pairs: RoiPairs | None = None) -> dict[str, Path]:
    result = result_of(fixed, moving, rigid(fixed), kind="rigid", pairs=pairs)
    files = write_objects(result, folder).files
    return {name: file for name, file in files.items() if name.startswith("seg")}


def masks(path: Path, volume: Volume) -> dict[int, np.ndarray]:
    out: dict[int, np.ndarray] = {}
    for number, k, mask in read_segments(path, volume.grid):
        out.setdefault(number, np.zeros(volume.grid.shape, bool))[:, :, k] = mask.T
    return out


def test_overlapping_masks_come_back_bit_for_bit(images, tmp_path):
    pairs = invented_pairs(*images, 7)
    files = segmentations(*images, tmp_path, pairs)
    for side, volume in zip(("fixed", "moving"), images, strict=True):
        read = masks(files[f"seg_{side}"], volume)
        assert set(read) == {p.id for p in pairs}
        for pair in pairs:
            np.testing.assert_array_equal(read[pair.id], getattr(pair, side).mask(volume.grid.shape))
        overlap = sum(m.astype(int) for m in read.values()).max() > 1
        assert dcmread(files[f"seg_{side}"]).SegmentsOverlap == ("YES" if overlap else "NO")


def test_the_two_of_a_pair_share_number_label_tracking_and_colour(images, tmp_path):
    files = segmentations(*images, tmp_path)
    fixed, moving = (dcmread(files[n]).SegmentSequence for n in ("seg_fixed", "seg_moving"))
    for number, (a, b) in enumerate(zip(fixed, moving, strict=True), 1):
        assert a.SegmentNumber == b.SegmentNumber == number
        assert a.SegmentLabel == b.SegmentLabel == f"ROI {number}"
        assert a.TrackingUID == b.TrackingUID
        assert a.RecommendedDisplayCIELabValue == b.RecommendedDisplayCIELabValue
        assert a.SegmentAlgorithmType == "AUTOMATIC"
        assert a.SegmentAlgorithmName == "samreg"
    assert len({s.TrackingUID for s in fixed}) == len(fixed)


def test_a_given_label_is_named_where_a_segment_number_cannot_hold_it(images, tmp_path):
    pairs = invented_pairs(*images, 3)
    numbers = (7, 614454277, 2**63 + 1)
    labelled = tuple(
        replace(p, fixed=replace(p.fixed, label=n), moving=replace(p.moving, label=n))
        for p, n in zip(pairs, numbers, strict=True)
    )
    files = segmentations(*images, tmp_path, replace(pairs, pairs=labelled))
    for path in files.values():
        segments = dcmread(path).SegmentSequence
        assert [s.SegmentNumber for s in segments] == [1, 2, 3]
        assert [s.SegmentLabel for s in segments] == [f"ROI {i}, label {n}" for i, n in enumerate(numbers, 1)]


def test_more_regions_than_segment_numbers_are_told_of(images, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "MAX_SEGMENTS", 3)
    result = result_of(*images, rigid(images[0]), kind="rigid", pairs=invented_pairs(*images, 4))
    written = write_objects(result, tmp_path)
    assert set(written.files) == {"reg"}
    assert any("No SEG is written, because 4 regions" in note and "3 at most" in note for note in written.notes)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_volume_that_leans_in_its_series_gets_no_segmentation(images, tmp_path, axis):
    fixed, moving = images
    lean = fixed.grid.affine.copy()
    lean[:3, axis] += 0.2 * lean[:3, 0]
    leaning = replace(fixed, grid=type(fixed.grid)(fixed.grid.shape, lean))
    with pytest.raises(OutputInvalid, match="not perpendicular"):
        segmentations(leaning, moving, tmp_path, invented_pairs(leaning, moving, 3))


def test_each_side_belongs_to_its_own_series(images, tmp_path):
    files = segmentations(*images, tmp_path)
    for side, volume in zip(("fixed", "moving"), images, strict=True):
        ds = dcmread(files[f"seg_{side}"])
        assert ds.StudyInstanceUID == volume.source.study_uid
        assert ds.FrameOfReferenceUID == volume.frame_of_reference_uid
        assert [s.SeriesInstanceUID for s in ds.ReferencedSeriesSequence] == [volume.source.series_uid]
        assert (ds.Rows, ds.Columns) == (volume.grid.shape[1], volume.grid.shape[0])


def test_a_frame_names_the_slice_it_was_drawn_on(images, tmp_path):
    volume = images[0]
    ds = dcmread(segmentations(*images, tmp_path)["seg_fixed"])
    for frame in ds.PerFrameFunctionalGroupsSequence:
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        k = round(float(volume.grid.index(position)[2]))
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == volume.source.instances[k][1]


def test_one_region_in_one_slice(images, tmp_path):
    mask = np.zeros(images[0].grid.shape, bool)
    mask[12, 10, 5] = True
    roi = Roi.from_mask(mask)
    pairs = RoiPairs(images[0].grid, images[1].grid, (RoiPair(1, roi, roi, 1, 1),))
    read = masks(segmentations(*images, tmp_path, pairs)["seg_fixed"], images[0])
    np.testing.assert_array_equal(read[1], mask)


def test_ids_with_gaps_are_numbered_without_and_keep_their_labels(images, tmp_path):
    pairs = invented_pairs(*images, 4)
    some = replace(pairs, pairs=(pairs.pairs[3], pairs.pairs[1]))
    path = segmentations(*images, tmp_path, some)["seg_fixed"]
    assert [(s.SegmentNumber, s.SegmentLabel) for s in dcmread(path).SegmentSequence] == [(1, "ROI 2"), (2, "ROI 4")]
    np.testing.assert_array_equal(masks(path, images[0])[2], pairs.pairs[3].fixed.mask(images[0].grid.shape))


def test_an_enhanced_series_with_shuffled_frames(tmp_path):
    volume = small_volume()
    (tmp_path / "fixed").mkdir()
    write_enhanced(volume, tmp_path / "fixed" / "enhanced.dcm", order=[3, 0, 7, 1, 6, 2, 5, 4])
    fixed, moving = read_image(tmp_path / "fixed"), small_series(tmp_path / "moving", 1)
    pairs = invented_pairs(fixed, moving, 3)
    path = segmentations(fixed, moving, tmp_path, pairs)["seg_fixed"]
    for number, mask in masks(path, fixed).items():
        np.testing.assert_array_equal(mask, pairs.pairs[number - 1].fixed.mask(fixed.grid.shape))
    for frame in dcmread(path).PerFrameFunctionalGroupsSequence:
        k = round(float(fixed.grid.index(np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float))[2]))
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedFrameNumber == fixed.source.frames[k]


def test_slices_in_descending_order_and_rounded_positions(tmp_path):
    volume = small_volume()
    affine = volume.grid.affine.copy()
    affine[:3, 2] *= -1
    flipped = replace(volume, grid=type(volume.grid)(volume.grid.shape, affine))
    files = phantoms.write_dicom_series(flipped, tmp_path / "fixed")
    for file in files[::2]:
        ds = dcmread(file)
        ds.ImagePositionPatient = [float(v) + 0.03 for v in ds.ImagePositionPatient]
        ds.save_as(file)
    fixed, moving = read_image(tmp_path / "fixed"), small_series(tmp_path / "moving", 1)
    pairs = invented_pairs(fixed, moving, 3)
    for number, mask in masks(segmentations(fixed, moving, tmp_path, pairs)["seg_fixed"], fixed).items():
        np.testing.assert_array_equal(mask, pairs.pairs[number - 1].fixed.mask(fixed.grid.shape))


def test_a_series_that_moved_since_it_was_read_is_noticed(images, tmp_path):
    fixed, moving = images
    shifted = fixed.grid.affine.copy()
    shifted[:3, 3] += 2.0
    elsewhere = replace(fixed, grid=type(fixed.grid)(fixed.grid.shape, shifted))
    pairs = invented_pairs(elsewhere, moving)
    with pytest.raises(OutputInvalid, match="mm away from the slices") as error:
        segmentations(elsewhere, moving, tmp_path, pairs)
    assert error.value.reason == "segmentation-misplaced"


def test_a_flipped_bit_does_not_pass(images, tmp_path):
    pairs = invented_pairs(*images)
    path = segmentations(*images, tmp_path, pairs)["seg_fixed"]
    verify_segmentation(path, pairs, "fixed", *images)
    ds = dcmread(path)
    pixels = bytearray(ds.PixelData)
    pixels[len(pixels) // 2] ^= 0x10
    ds.PixelData = bytes(pixels)
    ds.save_as(path)
    with pytest.raises(OutputInvalid, match="differs from region"):
        verify_segmentation(path, pairs, "fixed", *images)


def test_a_region_too_many_or_too_few_does_not_pass(images, tmp_path):
    pairs = invented_pairs(*images)
    path = segmentations(*images, tmp_path, pairs)["seg_fixed"]
    fewer = replace(pairs, pairs=pairs.pairs[:-1])
    with pytest.raises(OutputInvalid, match="differs from region 5"):
        verify_segmentation(path, fewer, "fixed", *images)
    extra = RoiPair(6, pairs.pairs[0].fixed, pairs.pairs[0].moving, 1, 1)
    with pytest.raises(OutputInvalid, match="differs from region 6"):
        verify_segmentation(path, replace(pairs, pairs=(*pairs.pairs, extra)), "fixed", *images)
