"""Sends a Key Object Selection made by pydicom; prints the status of the answer, hexadecimal, and its comment.

    rejection_note.py PORT NOTE_UID CODE STUDY SERIES SOP...
"""

import sys

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
CT = "1.2.840.10008.5.1.4.1.1.2"


def code(value, scheme="DCM"):
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = "title"
    return item


def note(uid, title, study, series, sops):
    data_set = Dataset()
    data_set.SOPClassUID = KEY_OBJECTS
    data_set.SOPInstanceUID = uid
    data_set.StudyDate = "20260115"
    data_set.Modality = "KO"
    data_set.PatientName = "TEST^SYNTHETIC"
    data_set.PatientID = "TEST-1"
    data_set.StudyInstanceUID = study
    data_set.SeriesInstanceUID = f"{uid}.9"
    data_set.SeriesNumber = 99
    data_set.InstanceNumber = 1
    data_set.ValueType = "CONTAINER"
    data_set.ContinuityOfContent = "SEPARATE"
    data_set.ConceptNameCodeSequence = Sequence([code(title)])
    references = []
    for sop in sops:
        item = Dataset()
        item.ReferencedSOPClassUID = CT
        item.ReferencedSOPInstanceUID = sop
        references.append(item)
    of_series = Dataset()
    of_series.SeriesInstanceUID = series
    of_series.ReferencedSOPSequence = Sequence(references)
    of_study = Dataset()
    of_study.StudyInstanceUID = study
    of_study.ReferencedSeriesSequence = Sequence([of_series])
    data_set.CurrentRequestedProcedureEvidenceSequence = Sequence([of_study])
    # In the tree a reader finds the references again, with a title that is not the document's.
    tree = Dataset()
    tree.RelationshipType = "CONTAINS"
    tree.ValueType = "IMAGE"
    tree.ConceptNameCodeSequence = Sequence([code("113000")])
    tree.ReferencedSOPSequence = Sequence(references)
    data_set.ContentSequence = Sequence([tree])
    return data_set


def main():
    port, uid, title, study, series, *sops = sys.argv[1:]
    data_set = note(uid, title, study, series, sops)
    data_set.ensure_file_meta()
    data_set.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    data_set.file_meta.MediaStorageSOPClassUID = KEY_OBJECTS
    data_set.file_meta.MediaStorageSOPInstanceUID = uid
    sender = AE(ae_title="MANAGER")
    sender.add_requested_context(KEY_OBJECTS, "1.2.840.10008.1.2.1")
    association = sender.associate("127.0.0.1", int(port), ae_title="KURA")
    assert association.is_established
    answer = association.send_c_store(data_set)
    association.release()
    print(f"{answer.Status:04X} {answer.get('ErrorComment', '')}")


main()
