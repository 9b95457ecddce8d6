"""Read the two series that the SDK's selector chose."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai.deploy.core import (
    ConditionType,
    ExecutionContext,
    Fragment,
    InputContext,
    Operator,
    OperatorSpec,
    OutputContext,
)
from monai.deploy.core.domain.dicom_series import DICOMSeries
from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries

from samreg.errors import InputRefused
from samreg.sources import Sources, load

log = logging.getLogger("samreg.operators")


class SelectedSeriesLoaderOperator(Operator):
    """Read the two series that `DICOMSeriesSelectorOperator` selected, from their files.

    The selection says which series; the images are read again from the folder that holds the files of both, by the
    reader of this project. So its checks apply, also to what the SDK's loader has left out: of several images at one
    place, as in a time series, it keeps one and says nothing.

    Named inputs:
        study_selected_series_list: `list[StudySelectedSeries]` with one series under each of the two names, in one
            study or in two. The selector needs `all_matched=True`, or takes the first of several that match.

    Named outputs:
        inputs: `samreg.sources.Inputs`, the two images. Receiver optional.

    Args:
        fixed, moving: Names of the selections.
        allow_different_patients: Do not refuse a pair whose patient attributes differ.

    Raises (from `compute`):
        InputRefused: `no-series-for-role` or `several-series` if a selection is missing or ambiguous, `no-files` if
            a series was not read from files that are still there, `no-common-folder`; otherwise as
            `samreg.io.read_pair`.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: Any,
        fixed: str = "fixed",
        moving: str = "moving",
        allow_different_patients: bool = False,
        **kwargs: Any,
    ) -> None:
        self.selections = {"fixed": fixed.strip(), "moving": moving.strip()}
        self.allow_different_patients = allow_different_patients
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("study_selected_series_list")
        spec.output("inputs").condition(ConditionType.NONE)

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        sources = self.sources(op_input.receive("study_selected_series_list"))
        roles = "The selections '{fixed}' and '{moving}' name the two series.".format(**self.selections)
        op_output.emit(replace(load(sources), roles=roles), "inputs")

    def sources(self, selected: Sequence[StudySelectedSeries]) -> Sources:
        """What a selection means: the folder that holds the files of both series, and which series they are."""
        series = {role: _only(selected, name) for role, name in self.selections.items()}
        files = [file for role, name in self.selections.items() for file in _files(series[role], name)]
        uids = {role: str(one.SeriesInstanceUID) for role, one in series.items()}
        for role, uid in uids.items():
            log.info("taken as %s: series %s: selection '%s'", role, uid, self.selections[role])
        folder = _common(files)
        return Sources(
            fixed=folder,
            moving=folder,
            fixed_series=uids["fixed"],
            moving_series=uids["moving"],
            allow_different_patients=self.allow_different_patients,
        )


def _only(selected: Sequence[StudySelectedSeries], name: str) -> DICOMSeries:
    """The one series selected under a name, over all studies."""
    entries = [entry for study in selected or () for entry in study.series_by_selection_name.get(name, ())]
    found = {str(entry.series.SeriesInstanceUID): entry.series for entry in entries}
    if not found:
        raise InputRefused(
            f"no series is selected as '{name}'",
            "one series",
            "Change the rules of the selector, or send the series; the selector's log says what did not match.",
            reason="no-series-for-role",
        )
    if len(found) > 1:
        raise InputRefused(
            f"{len(found)} series are selected as '{name}': {', '.join(found)}",
            "one series",
            "Make the rules of the selector narrower.",
            reason="several-series",
        )
    return next(iter(found.values()))


def _files(series: DICOMSeries, name: str) -> list[Path]:
    """Where the images of a series were read from."""
    names = [getattr(image.get_native_sop_instance(), "filename", None) for image in series.get_sop_instances()]
    files = [Path(file).absolute() for file in names if isinstance(file, str | os.PathLike)]
    if not files or len(files) < len(names) or not all(file.is_file() for file in files):
        raise InputRefused(f"the series selected as '{name}' has no files", reason="no-files")
    return files


def _common(files: Sequence[Path]) -> Path:
    """The folder that holds all files; of what the SDK's loader read, it is never above the input folder."""
    folder = Path(os.path.commonpath([file.parent for file in files]))
    if folder == Path(folder.anchor):
        raise InputRefused("the selected series have no folder in common", reason="no-common-folder")
    return folder
