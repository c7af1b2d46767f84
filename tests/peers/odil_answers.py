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


def put(identifier, tag, value):
    element = odil.Element(odil.registry.public_dictionary[tag].vr)
    if value:
        element = odil.Element(odil.Value.Strings(value), odil.as_vr(odil.registry.public_dictionary[tag].vr))
    identifier.add(tag, element)


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


def read(answer):
    strings = odil.registry
    charset = [bytes(one).decode() for one in answer.as_string(strings.SpecificCharacterSet)]
    name = answer.as_string(strings.PatientName)[0]
    name = odil.as_utf8(name, answer.as_string(strings.SpecificCharacterSet), True)
    uid = answer.as_string(strings.StudyInstanceUID)[0]
    return ["\\".join(charset), bytes(name).decode(), bytes(uid).decode()]


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
