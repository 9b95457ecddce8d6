"""The MONAI Deploy application: two DICOM series in, registration objects and a report out."""
