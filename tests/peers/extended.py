#!/usr/bin/env python3
"""Negotiates queries with pynetdicom, and asks for a name in another order than it is stored.

Prints one JSON object: the application information that was accepted for each SOP class, in hex,
and how many studies were found.
"""

import argparse
import json
import sys

import own_answers
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"


def proposed(sop_class, information):
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = sop_class
    item.service_class_application_information = information
    return item


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    ae = AE(ae_title="PYNETDICOM")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(FIND)
    ae.add_requested_context(MOVE)
    items = [proposed(FIND, b"\x01\x00\x01\x01"), proposed(MOVE, b"\x00")]
    assoc = ae.associate("127.0.0.1", options.port, ext_neg=items)
    if not assoc.is_established:
        raise SystemExit("no association")
    own_answers.keep(assoc)
    accepted = {uid: info.hex() for uid, info in assoc.acceptor.sop_class_extended.items()}
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.PatientName = "JOHN SMITH"
    identifier.StudyInstanceUID = ""
    found = [status.Status for status, _ in assoc.send_c_find(identifier, FIND)]
    assoc.release()
    json.dump({"accepted": accepted, "found": found.count(0xFF00)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
