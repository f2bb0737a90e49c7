"""A prediction said in DICOM, and checked before it leaves. Pure: prediction and source headers to data sets."""
