"""Kazoo, unmodified: its calls and its recipes. Usage: recipes.py HOST:PORT,..."""

import sys
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
)
from kazoo.protocol.states import EventType, KazooState
from kazoo.recipe.barrier import Barrier, DoubleBarrier
from kazoo.recipe.cache import TreeCache
from kazoo.recipe.counter import Counter
from kazoo.recipe.election import Election
from kazoo.recipe.lease import NonBlockingLease
from kazoo.recipe.lock import Lock, ReadLock, Semaphore, WriteLock
from kazoo.recipe.party import Party
from kazoo.recipe.queue import LockingQueue, Queue
from kazoo.recipe.watchers import ChildrenWatch, DataWatch
from kazoo.security import make_digest_acl

HOSTS = sys.argv[1]
PATIENCE_S = 30


def connect(**options):
    client = KazooClient(hosts=HOSTS, timeout=10, **options)
    client.start(timeout=PATIENCE_S)
    return client


def until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.01)


def raises(error, call, *args, **options):
    try:
        call(*args, **options)
    except error:
        return
    raise AssertionError(f"expected {error.__name__}")


def nodes(a, b):
    a.create("/nodes/deep/er", b"1", makepath=True)
    raises(NodeExistsError, b.create, "/nodes/deep/er")
    data, stat = b.get("/nodes/deep/er")
    assert (data, stat.version) == (b"1", 0), (data, stat)
    stat = b.set("/nodes/deep/er", b"22", version=0)
    assert (stat.version, stat.dataLength) == (1, 2), stat
    raises(BadVersionError, a.set, "/nodes/deep/er", b"3", version=0)
    raises(NotEmptyError, a.delete, "/nodes/deep")
    raises(NoNodeError, a.get, "/nodes/none")
    names = [a.create("/nodes/s-", sequence=True) for _ in range(3)]
    assert names == sorted(names), names
    assert len(a.get_children("/nodes")) == 4
    a.delete("/nodes", recursive=True)
    assert b.exists("/nodes") is None


def transactions(a, b):
    a.create("/txn")
    txn = a.transaction()
    txn.create("/txn/x", b"x")
    txn.set_data("/txn", b"new")
    txn.check("/txn", 1)
    results = txn.commit()
    assert results[0] == "/txn/x" and results[2] is True, results
    txn = a.transaction()
    txn.create("/txn/y")
    txn.delete("/txn/none")
    results = txn.commit()
    assert isinstance(results[0], RolledBackError), results
    assert isinstance(results[1], NoNodeError), results
    a.sync("/txn")
    assert b.sync("/txn") == "/txn" and b.exists("/txn/y") is None


def watches(a, b):
    a.create("/watched", b"0")
    seen, children, events = [], [], []
    DataWatch(b, "/watched", lambda data, stat: seen.append(data))
    ChildrenWatch(b, "/watched", lambda names: children.append(sorted(names)))
    b.get("/watched", watch=events.append)
    a.set("/watched", b"1")
    until(lambda: seen and seen[-1] == b"1", "the data watch")
    until(lambda: events, "the watch")
    assert events[0].type == EventType.CHANGED and events[0].path == "/watched"
    a.create("/watched/child")
    until(lambda: children and children[-1] == ["child"], "the child watch")
    cache = TreeCache(b, "/watched")
    cache.start()
    until(lambda: cache.get_data("/watched/child") is not None, "the cache")
    a.set("/watched/child", b"c")
    until(lambda: cache.get_data("/watched/child").data == b"c", "the cache")
    cache.close()


def ephemerals(a, b):
    c = connect()
    c.create("/here", ephemeral=True)
    gone = threading.Event()
    b.exists("/here", watch=lambda event: gone.set())
    c.stop()
    assert gone.wait(PATIENCE_S)
    c.close()


def acls(a, b):
    c = connect(auth_data=[("digest", "joe:secret")])
    c.create("/private", b"s", acl=[make_digest_acl("joe", "secret", all=True)])
    raises(NoAuthError, b.get, "/private")
    b.add_auth("digest", "joe:secret")
    assert b.get("/private")[0] == b"s"
    c.stop()
    c.close()


def locks(a, b):
    counter = {"inside": 0, "most": 0, "turns": 0}

    def work(client):
        for _ in range(5):
            with Lock(client, "/locks/one"):
                counter["inside"] += 1
                counter["most"] = max(counter["most"], counter["inside"])
                counter["turns"] += 1
                time.sleep(0.005)
                counter["inside"] -= 1

    threads = [threading.Thread(target=work, args=(c,)) for c in (a, b, a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counter["most"], counter["turns"]) == (1, 20), counter
    lock = Lock(a, "/locks/one", "me")
    assert lock.acquire(timeout=PATIENCE_S)
    assert lock.contenders() == ["me"]
    assert not Lock(b, "/locks/one").acquire(blocking=False)
    lock.release()
    first, second = ReadLock(a, "/locks/rw"), ReadLock(b, "/locks/rw")
    assert first.acquire() and second.acquire(timeout=PATIENCE_S)
    assert not WriteLock(a, "/locks/rw").acquire(blocking=False)
    first.release()
    second.release()
    assert WriteLock(a, "/locks/rw").acquire(timeout=PATIENCE_S)
    places = [Semaphore(c, "/locks/places", max_leases=2) for c in (a, b, a)]
    assert places[0].acquire() and places[1].acquire()
    assert not places[2].acquire(blocking=False)
    places[0].release()
    assert places[2].acquire(timeout=PATIENCE_S)
    lease = NonBlockingLease(a, "/locks/lease", __import__("datetime").timedelta(seconds=60))
    assert lease


def elections(a, b):
    won = []

    def lead(name):
        won.append(name)

    candidates = [(Election(c, "/election", name), name) for c, name in ((a, "a"), (b, "b"))]
    threads = [threading.Thread(target=e.run, args=(lead, n)) for e, n in candidates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(won) == ["a", "b"], won


def barriers(a, b):
    barrier = Barrier(a, "/barrier")
    barrier.create()
    assert not Barrier(b, "/barrier").wait(0.1)
    threading.Timer(0.1, barrier.remove).start()
    assert Barrier(b, "/barrier").wait(PATIENCE_S)
    passed = []

    def meet(client):
        meeting = DoubleBarrier(client, "/meeting", 2)
        meeting.enter()
        passed.append(client)
        meeting.leave()

    threads = [threading.Thread(target=meet, args=(c,)) for c in (a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(passed) == 2


def queues(a, b):
    queue = Queue(a, "/queue")
    for value in (b"1", b"2", b"3"):
        queue.put(value)
    other = Queue(b, "/queue")
    assert [other.get() for _ in range(4)] == [b"1", b"2", b"3", None]
    locking = LockingQueue(a, "/locking")
    locking.put_all([b"x", b"y"])
    taker = LockingQueue(b, "/locking")
    assert taker.get(PATIENCE_S) == b"x" and taker.consume()
    assert taker.get(PATIENCE_S) == b"y" and taker.consume()


def counters(a, b):
    def add(client):
        counter = Counter(client, "/counter")
        for _ in range(10):
            counter += 1

    threads = [threading.Thread(target=add, args=(c,)) for c in (a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    a.sync("/counter")
    assert Counter(a, "/counter").value == 20
    party = Party(a, "/party", "a")
    party.join()
    Party(b, "/party", "b").join()
    assert sorted(party) == ["a", "b"]


def pipelines(a, b):
    pending = [a.create_async(f"/pipe-{n:04}", b"x" * 100) for n in range(1000)]
    names = [result.get(timeout=PATIENCE_S) for result in pending]
    assert names[-1] == "/pipe-0999"
    assert b.sync("/") == "/"
    found = [name for name in b.get_children("/") if name.startswith("pipe-")]
    assert len(found) == 1000, len(found)


def sessions(a, b):
    states = []
    c = connect()
    c.add_listener(states.append)
    c.create("/kept", ephemeral=True)
    identity = c.client_id
    # The connection is cut; the session and its node go on.
    c._connection._socket.shutdown(2)
    until(lambda: KazooState.SUSPENDED in states, "the loss")
    until(lambda: states[-1] == KazooState.CONNECTED, "the reconnection")
    assert c.client_id[0] == identity[0]
    assert c.exists("/kept").ephemeralOwner == identity[0]
    c.stop()
    c.close()


CHECKS = [
    nodes,
    transactions,
    watches,
    ephemerals,
    acls,
    locks,
    elections,
    barriers,
    queues,
    counters,
    pipelines,
    sessions,
]

if __name__ == "__main__":
    first, second = connect(), connect()
    for check in CHECKS:
        check(first, second)
        print(f"ok {check.__name__}", flush=True)
    first.stop()
    second.stop()
