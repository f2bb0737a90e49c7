"""The DICOM edge: receives, routes, says results in DICOM, delivers them, and looks after the clock."""
