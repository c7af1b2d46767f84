#!/usr/bin/env python3
"""Stores files with pynetdicom, then compares C-FIND answers with what pydicom reads from them.

Prints one JSON object: how many were stored and compared, and every difference.
"""

import argparse
import io
import json
import sys
import warnings
from pathlib import Path

import own_answers
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pynetdicom import AE, _config
from pynetdicom.presentation import build_context

config.settings.writing_validation_mode = config.IGNORE
config.settings.reading_validation_mode = config.IGNORE
warnings.simplefilter("ignore")
# A path is sent as it lies on the disk, in whatever transfer syntax.
_config.STORE_SEND_CHUNKED_DATASET = True

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
GE_PRIVATE = "1.2.840.113619.5.2"
PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"

KEYS = {
    "PATIENT": "PatientName PatientID PatientBirthDate PatientSex".split(),
    "STUDY": """StudyInstanceUID PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime
        AccessionNumber StudyID StudyDescription ReferringPhysicianName""".split(),
    "SERIES": """StudyInstanceUID SeriesInstanceUID Modality SeriesNumber SeriesDescription SeriesDate
        SeriesTime""".split(),
    "IMAGE": """StudyInstanceUID SeriesInstanceUID SOPInstanceUID SOPClassUID InstanceNumber ContentDate
        ContentTime Rows Columns NumberOfFrames""".split(),
}


def read(path):
    """A data set; pydicom takes GE's syntax for explicit VR, so that is said differently."""
    if read_file_meta_info(path).TransferSyntaxUID != GE_PRIVATE:
        return dcmread(path)
    whole = Path(path).read_bytes()
    return dcmread(_renamed(whole))


def _renamed(whole):
    start = 144 + int.from_bytes(whole[140:144], "little")
    return io.BytesIO(b"\0" * 128 + b"DICM" + _meta(IMPLICIT_LE) + whole[start:])


def _meta(syntax):
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\x02\x00\x10\x00UI" + len(value).to_bytes(2, "little") + value


def plain(value):
    """Text; pydicom leaves the escape to GB 2312 (ISO 2022 IR 58) standing in it."""
    return str(value).replace("\x1b$)A", "").strip()


def shown(ds, key):
    value = ds.get(key)
    if value is None:
        return ""
    if isinstance(value, MultiValue | list):
        return "\\".join(str(part) for part in value)
    return plain(value)


class Peer:
    def __init__(self, options):
        self.options = options
        self.differences = []

    def associate(self, *contexts):
        """An association, or None when it or every context is refused."""
        ae = AE(ae_title="PYNETDICOM")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
        assoc = ae.associate(
            self.options.host, self.options.port, contexts=list(contexts), ae_title=self.options.called
        )
        return own_answers.keep(assoc) if assoc.is_established else None

    def store(self, path):
        meta = read_file_meta_info(path)
        context = build_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        assoc = self.associate(context)
        if assoc is None:
            self.differences.append(f"{path}: {context.abstract_syntax} is refused")
            return 0
        status = assoc.send_c_store(path)
        assoc.release()
        if status.get("Status") != 0:
            self.differences.append(f"{path}: C-STORE {status}")
            return 0
        return 1

    def find(self, assoc, level, model=STUDY_ROOT, charset="ISO_IR 192", **values):
        identifier = Dataset()
        identifier.SpecificCharacterSet = charset
        identifier.QueryRetrieveLevel = level
        for key in KEYS[level]:
            setattr(identifier, key, values.get(key))
        answers, final = [], None
        for status, answer in assoc.send_c_find(identifier, model):
            final = status.get("Status")
            if final in (0xFF00, 0xFF01):
                answer.decode()
                answers.append(answer)
        if final != 0:
            self.differences.append(f"C-FIND {level} {values}: ends with {final}")
        return answers

    def compare(self, assoc, path):
        ds = read(path)
        study = {"StudyInstanceUID": ds.StudyInstanceUID}
        series = {**study, "SeriesInstanceUID": ds.SeriesInstanceUID}
        image = {**series, "SOPInstanceUID": ds.SOPInstanceUID}
        for level, values in (("STUDY", study), ("SERIES", series), ("IMAGE", image)):
            answers = self.find(assoc, level, **values)
            if len(answers) != 1:
                self.differences.append(f"{path}: {level}: {len(answers)} answers")
                continue
            for key in KEYS[level]:
                wanted, got = shown(ds, key), shown(answers[0], key)
                if wanted != got:
                    self.differences.append(f"{path}: {level} {key}: {got!r}, file {wanted!r}")
                if key not in answers[0]:
                    self.differences.append(f"{path}: {level} {key}: not in the answer")
        # Each component group of the name, as written in the file, finds its study.
        for group in shown(ds, "PatientName").split("="):
            if group:
                answers = self.find(assoc, "STUDY", PatientName=group)
                if all(answer.StudyInstanceUID != ds.StudyInstanceUID for answer in answers):
                    self.differences.append(f"{path}: not found by name {group!r}")
        patient_id = shown(ds, "PatientID")
        if patient_id and not set(patient_id) & set("*?\\"):
            answers = self.find(assoc, "PATIENT", PATIENT_ROOT, PatientID=patient_id)
            if len(answers) != 1 or shown(answers[0], "PatientName") != shown(ds, "PatientName"):
                self.differences.append(f"{path}: PATIENT {patient_id}: {len(answers)} answers")

    def run(self):
        stored = 0 if self.options.stored else sum(self.store(path) for path in self.options.files)
        syntaxes = [EXPLICIT_LE, IMPLICIT_LE]
        assoc = self.associate(build_context(STUDY_ROOT, syntaxes), build_context(PATIENT_ROOT, syntaxes))
        if assoc is None:
            raise SystemExit("no association for queries")
        compared = 0
        for path in self.options.files:
            self.compare(assoc, path)
            compared += 1
        assoc.release()
        return {"stored": stored, "compared": compared, "differences": self.differences}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--called", required=True)
    parser.add_argument("--stored", action="store_true", help="they are there already")
    parser.add_argument("files", nargs="+")
    json.dump(Peer(parser.parse_args()).run(), sys.stdout, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
