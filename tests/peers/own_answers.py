"""Keeps pynetdicom's background thread from taking answers that a request waits for.

While a requestor sends one request after the other, that thread may wake late, between a request
and its answer, take the answer as a message of the peer and drop it. An answer is then missing, or
the request waits in vain: the quicker the server, the more often. The thread is the only caller
that does not block, so it is told that there is nothing.
"""


def keep(assoc):
    taking = assoc.dimse.get_msg
    assoc.dimse.get_msg = lambda block=False: taking(block=True) if block else (None, None)
    return assoc
