"""User identities as pynetdicom negotiates them. Arguments: port, user, password."""

import sys

from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation

port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def identity(kind, secret, response):
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.positive_response_requested = response
    item.primary_field = user.encode()
    if secret is not None:
        item.secondary_field = secret.encode()
    return [item]


for name, items in [
    ("right", identity(2, password, True)),
    ("right without response", identity(2, password, False)),
    ("wrong", identity(2, password + "x", True)),
    ("name alone", identity(1, None, True)),
    ("none", []),
]:
    for _ in range(10):
        ae = AE(ae_title="PYNETDICOM")
        ae.add_requested_context("1.2.840.10008.1.1")
        association = ae.associate("127.0.0.1", port, ae_title="KURA", ext_neg=items)
        # It may see the end of the connection before the rejection that came in front of it.
        if association.is_established or association.is_rejected:
            break
    if association.is_established:
        status = association.send_c_echo()
        assert status.Status == 0, status
        response = association.acceptor.user_identity
        said = "none"
        if response is not None:
            said = f"response {len(response.server_response or b'')} bytes"
        print(f"{name}: accepted, {said}")
        association.release()
    elif association.is_rejected:
        answer = association.acceptor.primitive
        print(f"{name}: rejected {answer.result} {answer.result_source} {answer.diagnostic}")
    else:
        print(f"{name}: neither")
