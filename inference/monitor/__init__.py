"""Is it still the model that was validated? Calibration and the statistics of a validation, in numpy alone."""
