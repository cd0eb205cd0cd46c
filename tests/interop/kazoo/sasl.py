"""Kazoo, unmodified: logins with SASL DIGEST-MD5. Usage: sasl.py HOST:PORT,...

The service has to require SASL, with the users joe (password "secret") and ann (password "other").
"""

import sys

from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, KazooException, NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.security import make_acl

HOSTS = sys.argv[1]
PATIENCE_S = 30


def client(user=None, password=None):
    options = {}
    if user is not None:
        options["sasl_options"] = {
            "mechanism": "DIGEST-MD5",
            "username": user,
            "password": password,
        }
    return KazooClient(hosts=HOSTS, timeout=10, **options)


def connect(user, password):
    connected = client(user, password)
    connected.start(timeout=PATIENCE_S)
    return connected


def logs_in():
    joe, ann = connect("joe", "secret"), connect("ann", "other")
    joe.create("/sasl", b"mine", acl=[make_acl("sasl", "joe", all=True)])
    assert joe.get("/sasl")[0] == b"mine"
    ann.sync("/sasl")
    try:
        ann.get("/sasl")
        raise AssertionError("ann reads what is joe's")
    except NoAuthError:
        pass
    # After a loss of the connection the client logs in again.
    joe._connection._socket.shutdown(2)
    assert joe.retry(joe.get, "/sasl")[0] == b"mine"
    for one in (joe, ann):
        one.stop()
        one.close()


def refuses(user, password):
    refused = client(user, password)
    try:
        refused.start(timeout=5)
        refused.get("/")
    except (AuthFailedError, KazooTimeoutError, KazooException):
        pass
    else:
        raise AssertionError(f"{user} got in")
    finally:
        refused.stop()
        refused.close()


if __name__ == "__main__":
    logs_in()
    print("ok logs_in", flush=True)
    refuses("joe", "wrong")
    refuses("bob", "secret")
    print("ok refuses", flush=True)
