#!/usr/bin/env python3
"""As answered.py, with odil.

Exits with 77 where odil is not installed for this interpreter.
"""

import argparse
import json
import sys

try:
    import odil
except ImportError:
    sys.exit(77)

FIND = odil.registry.StudyRootQueryRetrieveInformationModelFind

# Stands for a name in a set that odil does not know.
UNSUPPORTED = "(cannot be read by it)"


def asked(line):
    charset, name, patient_id = line.rstrip("\n").split("|")
    identifier = odil.DataSet()
    if charset:
        identifier.add(odil.registry.SpecificCharacterSet, charset.split("\\"))
    identifier.add(odil.registry.QueryRetrieveLevel, ["STUDY"])
    identifier.add(odil.registry.PatientName, [bytes.fromhex(name)] if name else [])
    identifier.add(odil.registry.PatientID, [patient_id] if patient_id else [])
    identifier.add(odil.registry.StudyInstanceUID, [])
    return identifier


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def read(answer):
    charset = answer.as_string(odil.registry.SpecificCharacterSet)
    name = answer.as_string(odil.registry.PatientName)[0]
    uid = answer.as_string(odil.registry.StudyInstanceUID)[0]
    try:
        name = odil.as_utf8(name, charset, True)
    except odil.Exception as error:
        if "Unknown encoding" not in str(error):
            raise
        name = UNSUPPORTED
    return ["\\".join(text(one) for one in charset), text(name), text(uid)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("list")
    options = parser.parse_args()
    association = odil.Association()
    association.set_peer_host("127.0.0.1")
    association.set_peer_port(options.port)
    context = odil.AssociationParameters.PresentationContext(
        FIND, [odil.registry.ExplicitVRLittleEndian], odil.AssociationParameters.PresentationContext.Role.SCU
    )
    association.update_parameters().set_calling_ae_title("ODIL").set_called_ae_title("KURA").set_presentation_contexts(
        [context]
    )
    association.associate()
    find = odil.FindSCU(association)
    find.set_affected_sop_class(FIND)
    seen = []
    with open(options.list, encoding="ascii") as lines:
        for line in lines:
            seen.append([read(answer) for answer in find.find(asked(line))])
    association.release()
    json.dump(seen, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
