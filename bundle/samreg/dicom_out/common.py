"""What all objects share: patient and study, equipment, marks of unverified output, references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import STR_VR, DSfloat, format_number_as_ds, validate_value

from samreg.dicom_out.completeness import is_complete
from samreg.geometry import SourceSeries
from samreg.transforms import is_orthonormal
from samreg.types import Matrix4, Status

SPATIAL_REGISTRATION = UID("1.2.840.10008.5.1.4.1.1.66.1")
DEFORMABLE_REGISTRATION = UID("1.2.840.10008.5.1.4.1.1.66.3")
SEGMENTATION = UID("1.2.840.10008.5.1.4.1.1.66.4")

MANUFACTURER = "samreg"

# Who and which study: type 1 and 2 attributes of the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1).
# Archives file by them, so they are copied as they stand, even if they break a rule.
IDENTITY = (
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
# What else describes the same patient and study (also PS3.3 C.7.1.3, C.7.2.2, C.7.2.3); copied if it is sound.
DESCRIPTION = (
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)


@dataclass(frozen=True)
class Stamp:
    """Who made the objects, with what, and how far they are to be trusted.

    Attributes:
        version: Of samreg.
        configuration: Hash of the configuration.
        status: Of the quality gate.
        time: Of writing, the same in all objects of a result.
    """

    version: str
    configuration: str
    status: Status
    time: datetime

    @property
    def software_versions(self) -> list[str]:
        """Value of SoftwareVersions: the version and the configuration."""
        return [self.version, f"configuration {self.configuration}"]

    @property
    def device_serial_number(self) -> str:
        """Software has no serial number; its name and version identify it."""
        return f"{MANUFACTURER}-{self.version}"

    @property
    def content_description(self) -> str:
        """Mark of unverified output, at most 64 characters."""
        gate = "FAILED its quality gate" if self.status == "FAIL" else f"quality {self.status}"
        return f"Unverified algorithm output, {gate}"

    def content_label(self, kind: str) -> str:
        """A code string of at most 16 characters ("DREG_UNVERIFIED", "SEG_FAILED")."""
        return f"{kind}_{'FAILED' if self.status == 'FAIL' else 'UNVERIFIED'}"


def new_object(sop_class_uid: UID, source: SourceSeries, stamp: Stamp, series_number: int, description: str) -> Dataset:
    """A Registration object of its own new series in the patient and study of `source`.

    Args:
        description: SeriesDescription, at most 64 characters.

    Returns:
        The modules Patient to General Equipment and SOP Common, with file meta.
    """
    ds = Dataset()
    copy_patient_and_study(source.header, ds)
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = new_uid()
    ds.Modality = "REG"
    ds.SeriesInstanceUID = new_uid()
    ds.SeriesNumber = series_number
    ds.SeriesDescription = description
    ds.InstanceNumber = 1
    add_equipment_and_dates(ds, stamp)
    ds.ContentDescription = stamp.content_description
    ds.FrameOfReferenceUID = source.header.FrameOfReferenceUID
    ds.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator", "")
    copy_body_part(source.header, ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def add_equipment_and_dates(ds: Dataset, stamp: Stamp) -> None:
    """The Enhanced General Equipment module, how the object came about, and when."""
    date, time = f"{stamp.time:%Y%m%d}", f"{stamp.time:%H%M%S}"
    for stem in ("Series", "Content", "InstanceCreation"):
        setattr(ds, f"{stem}Date", date)
        setattr(ds, f"{stem}Time", time)
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MANUFACTURER
    ds.DeviceSerialNumber = stamp.device_serial_number
    ds.SoftwareVersions = stamp.software_versions
    ds.ContributingEquipmentSequence = [_contributing_equipment(stamp)]


def copy_patient_and_study(header: Dataset, ds: Dataset) -> None:
    """Copy who was examined and in which study; what the standard requires and the source lacks becomes empty."""
    if "SpecificCharacterSet" in header:
        ds.SpecificCharacterSet = header.SpecificCharacterSet
    for keyword in IDENTITY:
        if keyword in header:
            ds[keyword] = deepcopy(header[keyword])
        else:
            setattr(ds, keyword, "")
    for keyword in DESCRIPTION:
        if keyword in header and (element := _sound_copy(header, keyword)) is not None:
            ds[keyword] = element


def _sound_copy(header: Dataset, keyword: str) -> DataElement | None:
    """A copy of an element without private attributes; None if a value breaks a rule or an item lacks something."""
    try:
        element = deepcopy(header[keyword])
        if not is_sound(element):
            return None
    except (ValueError, TypeError, ArithmeticError):  # a number that is none
        return None
    if element.VR == "SQ":
        if not is_complete(header, keyword):
            return None
        for item in element.value:
            item.remove_private_tags()
    return element


def is_sound(element: DataElement) -> bool:
    """True if every value, of nested items too, conforms to its value representation (length, characters)."""
    if element.VR == "SQ":
        return all(is_sound(nested) for item in element.value for nested in item if not nested.tag.is_private)
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values:
            if value is not None:
                validate_value(element.VR, str(value) if element.VR in STR_VR else value, RAISE)
    except ValueError:
        return False
    return True


def copy_body_part(header: Dataset, ds: Dataset) -> None:
    """Copy the body part; if it is unknown so is its side, which type 2C then states as empty."""
    if header.get("BodyPartExamined") and is_sound(header["BodyPartExamined"]):
        ds.BodyPartExamined = header.BodyPartExamined
    # A segmentation states sides frame by frame, if at all, and must not state one for the series.
    if ds.Modality == "REG" and (header.get("Laterality") or "BodyPartExamined" not in ds):
        ds.Laterality = header.get("Laterality") or ""


def _contributing_equipment(stamp: Stamp) -> Dataset:
    """The item of ContributingEquipmentSequence that states how the object came about."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = MANUFACTURER
    item.SoftwareVersions = stamp.software_versions
    item.ContributionDateTime = f"{stamp.time:%Y%m%d%H%M%S}"
    item.ContributionDescription = (
        f"{stamp.content_description}. Image registration by paired regions of interest; not a cleared medical device."
    )
    return item


def add_references(ds: Dataset, series: Iterable[tuple[str, str, Sequence[tuple[str, str]]]]) -> None:
    """The Common Instance Reference module.

    Args:
        ds: The referring object; its study decides which sequence a series goes to.
        series: (study UID, series UID, [(SOP class UID, SOP instance UID)]) of each series referred to.
    """
    own: list[Dataset] = []
    others: dict[str, list[Dataset]] = {}
    for study_uid, series_uid, instances in series:
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedInstanceSequence = image_items(instances)
        (own if study_uid == ds.StudyInstanceUID else others.setdefault(study_uid, [])).append(item)
    if own:
        ds.ReferencedSeriesSequence = own
    if others:
        ds.StudiesContainingOtherReferencedInstancesSequence = [_study_item(uid, s) for uid, s in others.items()]


def _study_item(study_uid: str, series: list[Dataset]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = study_uid
    item.ReferencedSeriesSequence = series
    return item


def series_reference(source: SourceSeries) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Study UID, series UID and instances, each instance once (an enhanced one has many frames)."""
    return source.study_uid, source.series_uid, tuple(dict.fromkeys(source.instances))


def image_items(instances: Iterable[tuple[str, str]]) -> list[Dataset]:
    """Reference items from (SOP class UID, SOP instance UID), each instance once."""
    items = []
    for sop_class_uid, sop_instance_uid in dict.fromkeys(instances):
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        items.append(item)
    return items


def code_item(code: Code) -> Dataset:
    """The item of a code sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def matrix_item(matrix: Matrix4) -> Dataset:
    """A matrix [4, 4] as 16 decimal strings, row by row, with the type that it truly has."""
    item = Dataset()
    item.FrameOfReferenceTransformationMatrix = decimal_strings(np.asarray(matrix).ravel())
    written = np.array([float(v) for v in item.FrameOfReferenceTransformationMatrix]).reshape(4, 4)
    item.FrameOfReferenceTransformationMatrixType = matrix_type(written)
    return item


def matrix_type(matrix: Matrix4) -> str:
    """RIGID for a rotation, RIGID_SCALE for orthogonal columns, else AFFINE (PS3.3 C.20.2.1.1)."""
    linear = matrix[:3, :3]
    if is_orthonormal(linear):
        return "RIGID"
    scales = np.linalg.norm(linear, axis=0)
    if np.all(scales > 0) and is_orthonormal(linear / scales):
        return "RIGID_SCALE"
    return "AFFINE"


def decimal_strings(values: Iterable[float]) -> list[DSfloat]:
    """Numbers as DICOM decimal strings: at most 16 characters, as precise as those allow."""
    return [DSfloat(format_number_as_ds(float(v) + 0.0)) for v in values]  # + 0.0 turns -0.0 into 0.0


def new_uid() -> UID:
    """A fresh UID from a random UUID (PS3.5 B.2)."""
    return generate_uid(prefix=None)


def save(ds: Dataset, path: Path) -> None:
    """Write as a DICOM file, refusing an incomplete file meta header."""
    ds.save_as(path, enforce_file_format=True)
