"""Stores a file over TLS and asks for its study. Arguments: port, CA file, DICOM file."""

import ssl
import sys

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

port, authority, path = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
image = dcmread(path)
ae = AE(ae_title="TESTER")
ae.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
ae.add_requested_context(FIND)
association = ae.associate(
    "127.0.0.1", int(port), ae_title="KURA", tls_args=(context, "127.0.0.1")
)
assert association.is_established, "no association"
for _ in range(3):
    status = association.send_c_store(image)
    assert status.Status == 0, status
wanted = Dataset()
wanted.QueryRetrieveLevel = "STUDY"
wanted.StudyInstanceUID = image.StudyInstanceUID
answers = [status for status, _ in association.send_c_find(wanted, FIND)]
association.release()
print("found", sum(status.Status == 0xFF00 for status in answers))
