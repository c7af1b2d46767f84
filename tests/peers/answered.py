#!/usr/bin/env python3
"""Asks with pynetdicom in many character sets, and reads the answers with pydicom.

    answered.py --port PORT LIST

LIST has lines of character set|name in hex|patient ID; an empty name or ID is asked for. Prints a
JSON list with, for each line, the answers: character set, patient's name, Study Instance UID.
"""

import argparse
import json
import sys
import warnings

import own_answers
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pynetdicom import AE

config.settings.writing_validation_mode = config.IGNORE
config.settings.reading_validation_mode = config.IGNORE
warnings.simplefilter("ignore")

FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def put(identifier, tag, vr, value):
    """Bytes as they are: pydicom writes what it has not read yet as it came."""
    value += b" " * (len(value) % 2)
    identifier[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, True, True)


def asked(line):
    charset, name, patient_id = line.rstrip("\n").split("|")
    identifier = Dataset()
    if charset:
        put(identifier, 0x00080005, "CS", charset.encode())
    put(identifier, 0x00080052, "CS", b"STUDY")
    put(identifier, 0x00100010, "PN", bytes.fromhex(name))
    put(identifier, 0x00100020, "LO", patient_id.encode())
    put(identifier, 0x0020000D, "UI", b"")
    return identifier


def read(answer):
    charset = answer.SpecificCharacterSet
    answer.decode()
    # Of ISO 2022 IR 58, pydicom decodes the characters and leaves the escape sequence.
    name = str(answer.PatientName).replace("\x1b$)A", "")
    several = isinstance(charset, MultiValue | list)
    return ["\\".join(charset) if several else charset, name, answer.StudyInstanceUID]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("list")
    options = parser.parse_args()
    ae = AE(ae_title="PYNETDICOM")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    ae.add_requested_context(FIND)
    assoc = ae.associate("127.0.0.1", options.port)
    if not assoc.is_established:
        raise SystemExit("no association")
    own_answers.keep(assoc)
    seen = []
    with open(options.list, encoding="ascii") as lines:
        for line in lines:
            answers = []
            for status, answer in assoc.send_c_find(asked(line), FIND):
                if status.Status == 0xFF00:
                    answers.append(read(answer))
                elif status.Status != 0:
                    raise SystemExit(f"{line}: ends with {status.Status:04X}")
            seen.append(answers)
    assoc.release()
    json.dump(seen, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
