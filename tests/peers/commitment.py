#!/usr/bin/env python3
"""Storage commitment with pynetdicom.

    commitment.py ask TRANSACTION SOP... --port PORT --listen PORT [--leave] [--role]
        as a modality: asks, waits for the report (over the same association, or with --leave to its own port), prints
        JSON with the status of the answer, where the report came, its event type, and the UIDs in it
    commitment.py keep --port PORT --listen PORT [--when FILE]
        as an archive: takes CT images and requests until its input ends; reports each over an association of its own to
        AE title KURA at --port, with --when as soon as that file is there (it prints when it is asked): committed but for UIDs that end in 3
"""

import argparse
import json
import os
import sys
import threading
import time

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel, Verification

INSTANCE = "1.2.840.10008.1.20.1.1"


def references(sops):
    items = []
    for sop in sops:
        item = Dataset()
        item.ReferencedSOPClassUID = CTImageStorage
        item.ReferencedSOPInstanceUID = sop
        items.append(item)
    return items


def ask(arguments):
    came = threading.Event()
    seen = {}

    def report(event, where):
        data = event.event_information
        seen["where"] = where
        seen["event"] = event.event_type
        seen["transaction"] = data.TransactionUID
        named = data.get("ReferencedSOPSequence") or []
        seen["committed"] = sorted(item.ReferencedSOPInstanceUID for item in named)
        failed = data.get("FailedSOPSequence") or []
        seen["failed"] = sorted([item.ReferencedSOPInstanceUID, item.FailureReason] for item in failed)
        came.set()
        return 0x0000, None

    ae = AE(ae_title="TESTER")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, lambda event: report(event, "listener"))]
    server = ae.start_server(("127.0.0.1", arguments.listen), block=False, evt_handlers=handlers)
    ae.add_requested_context(StorageCommitmentPushModel)
    roles = [build_role(StorageCommitmentPushModel, scu_role=True)] if arguments.role else []
    association = ae.associate(
        "127.0.0.1",
        arguments.port,
        ae_title="KURA",
        ext_neg=roles,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, lambda event: report(event, "association"))],
    )
    assert association.is_established
    data = Dataset()
    data.TransactionUID = arguments.arguments[0]
    data.ReferencedSOPSequence = references(arguments.arguments[1:])
    status, _ = association.send_n_action(data, 1, StorageCommitmentPushModel, INSTANCE)
    seen["status"] = status.Status
    if arguments.leave:
        association.release()
    came.wait(80)
    if not arguments.leave:
        association.release()
    server.shutdown()
    print(json.dumps(seen))


def keep(arguments):
    def tell(data):
        while arguments.when and not os.path.exists(arguments.when):
            time.sleep(0.05)
        named = [item.ReferencedSOPInstanceUID for item in data.ReferencedSOPSequence]
        failed = [sop for sop in named if sop.endswith("3")]
        report = Dataset()
        report.TransactionUID = data.TransactionUID
        report.ReferencedSOPSequence = references(sop for sop in named if sop not in failed)
        if failed:
            report.FailedSOPSequence = references(failed)
            for item in report.FailedSOPSequence:
                item.FailureReason = 0x0110
        ae = AE(ae_title="KEEPER")
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate("127.0.0.1", arguments.port, ae_title="KURA", ext_neg=[role])
        event = 2 if failed else 1
        status, _ = association.send_n_event_report(report, event, StorageCommitmentPushModel, INSTANCE)
        print(f"told {status.Status:04X} of {len(named)}", flush=True)
        association.release()

    def action(event):
        if arguments.when:
            print("asked", flush=True)
        threading.Thread(target=tell, args=[event.action_information]).start()
        return 0x0000, None

    ae = AE(ae_title="KEEPER")
    ae.add_supported_context(Verification)
    ae.add_supported_context(CTImageStorage)
    ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_C_STORE, lambda event: 0x0000), (evt.EVT_N_ACTION, action)]
    server = ae.start_server(("127.0.0.1", arguments.listen), block=False, evt_handlers=handlers)
    print("listening", flush=True)
    sys.stdin.read()
    server.shutdown()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["ask", "keep"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--listen", type=int)
    parser.add_argument("--when")
    parser.add_argument("--leave", action="store_true")
    parser.add_argument("--role", action="store_true")
    parser.add_argument("arguments", nargs="*")
    arguments = parser.parse_args()
    {"ask": ask, "keep": keep}[arguments.what](arguments)


main()
