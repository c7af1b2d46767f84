#!/usr/bin/env python3
"""Compares the text of every study and series answer with what pydicom reads from the files.

    sample_answers.py --port PORT --called AE FILE...

Each study and series is asked in UTF-8, and in the character set of one of its files. Files of one
study may differ: the answer must be what one of them says. Prints one JSON object: how many files
were read, how many answers compared, and every difference.
"""

import argparse
import json
import sys

import find
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.presentation import build_context

TEXTS = {
    "STUDY": """PatientName PatientID OtherPatientIDs PatientComments StudyID AccessionNumber StudyDescription
        ReferringPhysicianName AdditionalPatientHistory Occupation RequestingPhysician
        RequestedProcedureDescription""".split(),
    "SERIES": """SeriesDescription PerformingPhysicianName OperatorsName InstitutionName
        InstitutionalDepartmentName StationName Manufacturer ManufacturerModelName ProtocolName
        PerformedProcedureStepDescription""".split(),
}


def shown(ds, key):
    """As find.shown; what the archive keeps ends at 1,024 bytes, and spaces at both ends do not count."""
    parts = (part.strip(" \0") for part in find.shown(ds, key).split("\\"))
    return "\\".join(parts).encode()[:900]


def add(groups, level, uid, ds):
    texts, charsets = groups[level].setdefault(uid, ({key: set() for key in TEXTS[level]}, set()))
    for key in TEXTS[level]:
        texts[key].add(shown(ds, key))
    charset = ds.get("SpecificCharacterSet") or ""
    charsets.add(charset if isinstance(charset, str) else "\\".join(charset))


def asked(level, uid, charset):
    identifier = Dataset()
    if charset:
        identifier.SpecificCharacterSet = charset.split("\\")
    identifier.QueryRetrieveLevel = level
    for key in TEXTS[level]:
        setattr(identifier, key, None)
    setattr(identifier, "StudyInstanceUID" if level == "STUDY" else "SeriesInstanceUID", uid)
    return identifier


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--called", required=True)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    peer = find.Peer(options)
    groups = {"STUDY": {}, "SERIES": {}}
    read = 0
    for path in options.files:
        ds = find.read(path)
        read += 1
        add(groups, "STUDY", str(UID(ds.StudyInstanceUID)), ds)
        add(groups, "SERIES", str(UID(ds.SeriesInstanceUID)), ds)
    assoc = peer.associate(build_context(find.STUDY_ROOT, [find.EXPLICIT_LE]))
    compared = 0
    for level, all_of_level in groups.items():
        for uid, (texts, charsets) in all_of_level.items():
            for charset in sorted({"ISO_IR 192"} | charsets):
                answers = []
                for status, answer in assoc.send_c_find(asked(level, uid, charset), find.STUDY_ROOT):
                    if status.Status == 0xFF00:
                        answer.decode()
                        answers.append(answer)
                what = f"{level} {uid} in {charset!r}"
                if len(answers) != 1:
                    peer.differences.append(f"{what}: {len(answers)} answers")
                    continue
                compared += 1
                for key, wanted in texts.items():
                    got = shown(answers[0], key)
                    if got not in wanted:
                        peer.differences.append(f"{what}: {key}: {got!r}, files {sorted(wanted)!r}")
    assoc.release()
    json.dump({"read": read, "compared": compared, "differences": peer.differences}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
