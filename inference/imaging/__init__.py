"""Voxels with a place in the patient: headers, geometry, pixels, orientation."""
