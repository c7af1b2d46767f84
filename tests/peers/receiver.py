#!/usr/bin/env python3
"""A storage SCP made with pynetdicom that behaves as it is told.

    receiver.py --port PORT --log FILE [--refuse UID] [--status HEX --while FILE] [--die-after N] [--find]

Each instance that is answered 0000H gets a line in FILE: SOP Instance UID, Study Instance UID.
--refuse: no presentation context for that SOP class. --status: answered while that file is there.
--die-after: the process ends in the middle of that C-STORE. --find: answers how many instances of a
study it has.
"""

import argparse
import os
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, evt

FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--refuse", default="")
    parser.add_argument("--status", type=lambda text: int(text, 16), default=0)
    parser.add_argument("--while", dest="while_there", type=Path)
    parser.add_argument("--die-after", type=int, default=0)
    parser.add_argument("--find", action="store_true")
    given = parser.parse_args()
    held = {}
    count = 0

    def store(event):
        nonlocal count
        count += 1
        if given.die_after and count >= given.die_after:
            os._exit(1)
        if given.status and given.while_there and given.while_there.exists():
            return given.status
        study = str(event.dataset.StudyInstanceUID)
        sop = str(event.request.AffectedSOPInstanceUID)
        held.setdefault(study, set()).add(sop)
        with open(given.log, "a") as log:
            log.write(f"{sop} {study}\n")
        return 0

    def find(event):
        study = str(event.identifier.StudyInstanceUID)
        if study in held:
            answer = Dataset()
            answer.QueryRetrieveLevel = "STUDY"
            answer.StudyInstanceUID = study
            answer.NumberOfStudyRelatedInstances = len(held[study])
            yield 0xFF00, answer
        yield 0, None

    ae = AE("RECEIVER")
    ae.maximum_associations = 20
    for context in StoragePresentationContexts:
        if context.abstract_syntax != given.refuse:
            ae.add_supported_context(context.abstract_syntax, ImplicitVRLittleEndian)
    ae.add_supported_context("1.2.840.10008.1.1")
    handlers = [(evt.EVT_C_STORE, store)]
    if given.find:
        ae.add_supported_context(FIND, ImplicitVRLittleEndian)
        handlers.append((evt.EVT_C_FIND, find))
    ae.start_server(("127.0.0.1", given.port), evt_handlers=handlers)


main()
