"""Sends data sets as the node itself does."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory

from pydicom.dataset import Dataset

from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.dimse import send


def store_all(to: Destination, datasets: Sequence[Dataset]) -> list[int]:
    """The statuses, in order."""
    with TemporaryDirectory() as folder:
        files = []
        for number, dataset in enumerate(datasets):
            path = f"{folder}/{number}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            files.append(
                Outgoing(
                    path=path,  # type: ignore[arg-type]
                    sop_class_uid=dataset.SOPClassUID,
                    sop_instance_uid=dataset.SOPInstanceUID,
                    transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
                )
            )
        return [answer.status for answer in send(files, to)]
