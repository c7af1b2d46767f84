#!/usr/bin/env python3
"""Horos (the open branch of OsiriX) imitated with pynetdicom, request by request.

What its source sends: one association per operation, Study Root only, maximum
PDU 16384, query contexts with ten transfer syntaxes, relational IMAGE queries
without negotiation, C-GET without role selection, C-STORE with two contexts
for each of 63 classes. Prints one JSON object with what came back.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import own_answers
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.presentation import build_context

config.settings.writing_validation_mode = config.IGNORE
config.settings.reading_validation_mode = config.IGNORE
warnings.simplefilter("ignore")

EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
QUERY_SYNTAXES = [
    EXPLICIT_LE,
    IMPLICIT_LE,
    EXPLICIT_BE,
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.100",
]
# Its listener's order of preference.
STORE_SYNTAXES = [
    EXPLICIT_LE,
    IMPLICIT_LE,
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.100",
    EXPLICIT_BE,
]
VERIFICATION = "1.2.840.10008.1.1"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
PRIORITY_MEDIUM, PRIORITY_LOW = 0, 2

STUDY_KEYS = """PatientName PatientID AccessionNumber PatientBirthDate StudyDescription StudyDate StudyTime
    StudyInstanceUID StudyID NumberOfStudyRelatedInstances InstitutionName ReferringPhysicianName
    PerformingPhysicianName StudyComments InterpretationStatusID ModalitiesInStudy""".split()
SERIES_KEYS = """SeriesDescription SeriesDate SeriesTime SeriesInstanceUID SeriesNumber
    NumberOfSeriesRelatedInstances Modality ReferringPhysicianName PerformingPhysicianName InstitutionName
    StudyComments InterpretationStatusID StudyInstanceUID""".split()
IMAGE_KEYS = """InstanceCreationDate InstanceCreationTime InstanceNumber SOPInstanceUID StudyInstanceUID
    SeriesInstanceUID ImageComments""".split()


def storage_classes(count, needed):
    """`count` storage classes, those of the files first (Horos has fixed lists of 63 and 93)."""
    classes = list(needed)
    for context in StoragePresentationContexts:
        if context.abstract_syntax not in classes:
            classes.append(context.abstract_syntax)
    return classes[:count]


def data_set_of(path):
    """The bytes after the file meta; files of this project have a right group length."""
    whole = Path(path).read_bytes()
    length = int.from_bytes(whole[140:144], "little")
    return whole[144 + length :]


class Horos:
    def __init__(self, options):
        self.options = options
        self.files = {str(dcmread(path).SOPInstanceUID): data_set_of(path) for path in options.files}
        self.received = []

    def ae(self):
        ae = AE(ae_title=self.options.calling)
        ae.implementation_class_uid = "1.2.276.0.7238010.5.0.3.5.4"
        ae.implementation_version_name = "OSIRIX"
        ae.maximum_pdu_size = 16384
        ae.acse_timeout = ae.dimse_timeout = 40
        ae.network_timeout = 40
        return ae

    def associate(self, contexts, handlers=()):
        assoc = self.ae().associate(
            self.options.host,
            self.options.port,
            contexts=contexts,
            ae_title=self.options.called,
            max_pdu=16384,
            evt_handlers=list(handlers),
        )
        if not assoc.is_established:
            raise SystemExit(f"no association for {contexts[0].abstract_syntax}")
        return own_answers.keep(assoc)

    def keep(self, event):
        raw = event.request.DataSet.getvalue()
        sop = str(event.request.AffectedSOPInstanceUID)
        self.received.append((sop, raw == self.files.get(sop)))
        return 0x0000

    def taken(self):
        received, self.received = self.received, []
        return {
            "received": len(received),
            "identical": sum(1 for _, same in received if same),
        }

    def echo(self):
        assoc = self.associate([build_context(VERIFICATION, IMPLICIT_LE)])
        status = assoc.send_c_echo()
        assoc.release()
        return status.Status

    def store(self):
        """Two contexts for each class: the preferred syntax alone, then the rest."""
        sent = [dcmread(path) for path in self.options.files]
        contexts = []
        for uid in storage_classes(63, dict.fromkeys(ds.SOPClassUID for ds in sent)):
            contexts.append(build_context(uid, EXPLICIT_LE))
            contexts.append(build_context(uid, [EXPLICIT_BE, IMPLICIT_LE]))
        assoc = self.associate(contexts)
        accepted = len(assoc.accepted_contexts)
        statuses = [assoc.send_c_store(ds, priority=PRIORITY_LOW).Status for ds in sent]
        assoc.release()
        return {"contexts": len(contexts), "accepted": accepted, "statuses": statuses}

    def find(self, level, keys, **values):
        identifier = Dataset()
        identifier.SpecificCharacterSet = "ISO_IR 100"
        identifier.QueryRetrieveLevel = level
        for key in keys:
            setattr(identifier, key, values.get(key))
        assoc = self.associate([build_context(FIND, QUERY_SYNTAXES)])
        syntax = str(assoc.accepted_contexts[0].transfer_syntax[0])
        answers, final = [], None
        for status, answer in assoc.send_c_find(identifier, FIND, priority=PRIORITY_LOW):
            final = status.get("Status")
            if final in (0xFF00, 0xFF01):
                answers.append(self.described(answer, keys))
        assoc.release()
        return {"status": final, "transfer_syntax": syntax, "answers": answers}

    @staticmethod
    def described(answer, keys):
        answer.decode()
        seen = {key: str(answer[key].value or "") for key in keys if key in answer}
        if "ModalitiesInStudy" in answer:
            seen["ModalitiesInStudy"] = answer["ModalitiesInStudy"].repval
        seen["missing"] = [key for key in keys if key not in answer]
        seen["has_character_set"] = "SpecificCharacterSet" in answer
        seen["retrieve_ae_title"] = str(answer.get("RetrieveAETitle", ""))
        seen["availability"] = str(answer.get("InstanceAvailability", ""))
        return seen

    def move(self, **values):
        identifier = Dataset()
        for key, value in values.items():
            setattr(identifier, key, value)
        assoc = self.associate([build_context(MOVE, QUERY_SYNTAXES)])
        pending, final = [], None
        for status, _ in assoc.send_c_move(
            identifier, self.options.calling, MOVE, priority=PRIORITY_MEDIUM
        ):
            final = status.get("Status")
            if final == 0xFF00:
                pending.append(
                    [
                        status.get(f"NumberOf{word}Suboperations")
                        for word in ("Remaining", "Completed", "Failed", "Warning")
                    ]
                )
        assoc.release()
        return {"status": final, "pending": pending, **self.taken()}

    def get(self, study, classes):
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        identifier.StudyInstanceUID = study
        contexts = [build_context(GET, QUERY_SYNTAXES)]
        contexts += [build_context(uid, STORE_SYNTAXES) for uid in storage_classes(93, classes)]
        assoc = self.associate(contexts, [(evt.EVT_C_STORE, self.keep)])
        # No role was proposed. Horos takes the sub-operations all the same; pynetdicom
        # would refuse them, so its accepted contexts are told to be SCP too.
        for context in assoc.accepted_contexts:
            context._as_scp = True
        final = None
        for status, _ in assoc.send_c_get(identifier, GET, priority=PRIORITY_MEDIUM):
            final = status.get("Status")
        assoc.release()
        return {"contexts": len(contexts), "status": final, **self.taken()}

    def run(self):
        listener = self.ae()
        classes = list(dict.fromkeys(dcmread(path).SOPClassUID for path in self.options.files))
        for uid in storage_classes(93, classes):
            listener.add_supported_context(uid, STORE_SYNTAXES)
        server = listener.start_server(
            ("127.0.0.1", self.options.listen), block=False, evt_handlers=[(evt.EVT_C_STORE, self.keep)]
        )
        try:
            return self.everything(classes)
        finally:
            server.shutdown()

    def everything(self, classes):
        first = dcmread(self.options.files[0])
        study, series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
        patient = str(first.PatientID)
        date = str(first.StudyDate)
        by_modality = [key for key in STUDY_KEYS if key != "ModalitiesInStudy"] + ["Modality"]
        seen = {"echo": self.echo(), "store": self.store()}

        def studies(keys=STUDY_KEYS, **values):
            return self.find("STUDY", keys, **values)

        seen["find"] = {
            "study_by_patient_id": studies(PatientID=patient),
            "study_by_name": studies(PatientName="Example*"),
            "study_by_japanese_name": studies(PatientName="Yamada*"),
            "study_on_day": studies(StudyDate=f"{date}-{date}"),
            "study_before": studies(StudyDate="-20260101"),
            "study_date_and_time": studies(StudyDate=f"{date}-", StudyTime="100000.000-120000.000"),
            "study_ct_or_mr": studies(ModalitiesInStudy=["CT", "MR"]),
            "study_by_modality": studies(by_modality, Modality="PT"),
            "study_blank": studies(),
            "series": self.find("SERIES", SERIES_KEYS, StudyInstanceUID=study),
            "image_of_series": self.find(
                "IMAGE", IMAGE_KEYS, StudyInstanceUID=study, SeriesInstanceUID=series
            ),
            # "Smart" and WADO retrieval: of a study, with the series left open.
            "image_of_study": self.find("IMAGE", IMAGE_KEYS, StudyInstanceUID=study),
        }
        images = [
            str(one.SOPInstanceUID)
            for one in map(dcmread, self.options.files)
            if str(one.SeriesInstanceUID) == series
        ]
        seen["move"] = {
            "study": self.move(QueryRetrieveLevel="STUDY", StudyInstanceUID=study),
            "series": self.move(
                QueryRetrieveLevel="SERIES", StudyInstanceUID=study, SeriesInstanceUID=series
            ),
            "image_list": self.move(
                QueryRetrieveLevel="IMAGE", StudyInstanceUID=study, SOPInstanceUID=images
            ),
        }
        seen["get"] = self.get(study, classes)
        return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--called", required=True)
    parser.add_argument("--calling", default="OSIRIX")
    parser.add_argument("--listen", type=int, required=True, help="port of its own listener")
    parser.add_argument("files", nargs="+", help="stored, then looked for; the first names the study")
    seen = Horos(parser.parse_args()).run()
    json.dump(seen, sys.stdout, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
