"""What is known, and how it is kept: the only place where the DICOM edge and the model wing meet.

The domain's vocabulary lives here (``storage.facts``), below everything, because both wings must speak it. Nothing is
imported at package level: importing ``storage.facts`` must not load SQLAlchemy.
"""
