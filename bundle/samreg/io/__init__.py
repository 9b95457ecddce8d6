"""From paths to volumes, label maps and pairs that are safe to register."""

from samreg.io.dicom_check import Stack, check_series
from samreg.io.dicom_folder import Folder, Series, choose_series, find_series
from samreg.io.dicom_read import read_series
from samreg.io.formats import describe, read_image
from samreg.io.labels import labels_of_array, labels_on_grid, read_for_nearest, read_label_map, read_labels
from samreg.io.pair import describe_pair, read_pair
from samreg.io.roles import Roles, find_pair, find_roles, roles_of

__all__ = [
    "Folder",
    "Roles",
    "Series",
    "Stack",
    "check_series",
    "choose_series",
    "describe",
    "describe_pair",
    "find_pair",
    "find_roles",
    "find_series",
    "labels_of_array",
    "labels_on_grid",
    "read_for_nearest",
    "read_image",
    "read_label_map",
    "read_labels",
    "read_pair",
    "read_series",
    "roles_of",
]
