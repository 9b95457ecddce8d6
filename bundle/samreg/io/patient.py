"""Whether two DICOM headers are of the same patient. Never names a value."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from pydicom.dataset import Dataset

from samreg.errors import InputRefused
from samreg.io.dicom_headers import text


@dataclass(frozen=True)
class Patient:
    """What identifies a patient, normalised; empty where the header does not say."""

    id: str
    issuer: str
    name: str
    birth_date: str
    sex: str

    @staticmethod
    def of(header: Dataset) -> Patient:
        """The patient of a header."""
        return Patient(
            text(header, "PatientID"),
            text(header, "IssuerOfPatientID"),
            _name(text(header, "PatientName")),
            text(header, "PatientBirthDate"),
            text(header, "PatientSex").upper(),
        )

    def differences(self, other: Patient) -> tuple[str, ...]:
        """Names of what differs. An issuer that one of the two leaves out does not."""
        out = []
        if self.id != other.id:
            out.append("patient ID")
        if self.issuer and other.issuer and self.issuer != other.issuer:
            out.append("issuer of patient ID")
        if self.name != other.name:
            out.append("patient name")
        if self.birth_date != other.birth_date:
            out.append("birth date")
        if self.sex != other.sex:
            out.append("sex")
        return tuple(out)


def _name(value: str) -> str:
    """The alphabetic group of a person name; case, accents' encoding and trailing carets do not matter."""
    group = next((g for g in value.split("=") if g.strip("^ ")), "")
    parts = unicodedata.normalize("NFC", group).casefold().split("^")
    return "^".join(" ".join(p.split()) for p in parts).rstrip("^")


def patient_objection(fixed: Dataset, moving: Dataset) -> InputRefused | None:
    """Why two headers cannot be taken as of one patient, or None.

    Returns:
        A refusal with reason `different-patients` or `no-patient-id`.
    """
    a, b = Patient.of(fixed), Patient.of(moving)
    different = a.differences(b)
    if different:
        return InputRefused(f"the two series differ in {_listed(different)}", reason="different-patients")
    if not a.id:
        return InputRefused("neither series has a patient ID", reason="no-patient-id")
    return None


def _listed(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
