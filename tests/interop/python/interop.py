"""Checks of a server with released Python clients. The arguments name the scenarios; the
environment tells where the server is. A failed check ends the program with status 1."""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
import traceback
import urllib.parse

import aetcd
import etcd3gw
from aetcd import rpc

# Bounds each scenario, in seconds.
WITHIN = 100


def endpoint():
    return urllib.parse.urlparse(os.environ["ENDPOINTS"].split(",")[0])


def connect(user=None, password=None):
    url = endpoint()
    return aetcd.Client(url.hostname, url.port, username=user, password=password, timeout=20)


def ask(what):
    """Lets the test do something to the cluster, and returns when it is done."""
    print("ask:", what, flush=True)
    answer = sys.stdin.readline()
    if answer != "done\n":
        raise RuntimeError(f"the test answered {answer!r} to {what!r}")


def expect(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


@contextlib.asynccontextmanager
async def refused(what, text, kind=aetcd.ClientError):
    try:
        yield
    except kind as error:
        if text not in str(error):
            raise AssertionError(f"{what}: got {error!r}, want {text!r}") from error
    else:
        raise AssertionError(f"{what}: nothing was refused")


def pairs(answer):
    return [(pair.key, pair.value) for pair in answer]


async def kv():
    async with connect() as client:
        first = await client.put(b"kv/a", b"1")
        again = await client.put(b"kv/a", b"2", prev_kv=True)
        expect("previous", again.prev_kv.value, b"1")
        await client.put(b"kv/b", b"\x00\xff")
        got = await client.get(b"kv/a")
        expect("value", got.value, b"2")
        expect("versions", (got.version, got.mod_revision - got.create_revision), (2, 1))
        expect("created", got.create_revision, first.header.revision)
        expect("missing", await client.get(b"kv/none"), None)
        every = await client.get_prefix(b"kv/", sort_order="descend", sort_target="key")
        expect("descending", pairs(every), [(b"kv/b", b"\x00\xff"), (b"kv/a", b"2")])
        expect("replace", await client.replace(b"kv/a", b"2", b"3"), True)
        expect("replace what changed", await client.replace(b"kv/a", b"2", b"4"), False)
        async with refused("an empty key", "key is not provided", aetcd.InvalidArgumentError):
            await client.put(b"", b"x")
        deleted = await client.delete(b"kv/a", prev_kv=True)
        expect("deleted", deleted.prev_kv.value, b"3")
        gone = await client.delete_prefix(b"kv/")
        expect("deleted by prefix", gone.deleted, 1)


async def txn():
    async with connect() as client:
        await client.put(b"txn/a", b"1")
        t = client.transactions
        done, answers = await client.transaction(
            compare=[t.value(b"txn/a") == b"1", t.version(b"txn/a") > 0, t.create(b"txn/b") == 0],
            success=[t.put(b"txn/b", b"2"), t.get(b"txn/b")],
            failure=[t.delete(b"txn/a")],
        )
        expect("succeeded", done, True)
        expect("read in a transaction", answers[1][0][0], b"2")
        done, answers = await client.transaction(
            compare=[t.mod(b"txn/b") != answers[1][0][1].mod_revision],
            success=[],
            failure=[t.delete(b"txn/a"), t.txn(compare=[], success=[t.get(b"txn/b")], failure=[])],
        )
        expect("succeeded", done, False)
        expect("deleted", answers[0].response_delete_range.deleted, 1)
        nested = answers[1].response_txn.responses[0].response_range
        expect("nested", nested.kvs[0].value, b"2")


async def lease():
    async with connect() as client:
        one = await client.lease(60)
        await client.put(b"lease/a", b"1", lease=one)
        expect("granted", await one.granted_ttl(), 60)
        expect("keys", list(await one.keys()), [b"lease/a"])
        expect("renewed", (await one.refresh()).TTL, 60)
        async with refused("a lease twice", "", aetcd.DuplicateLeaseError):
            await client.lease(60, lease_id=one.id)
        await one.revoke()
        expect("keys of a revoked lease", await client.get(b"lease/a"), None)
        expect("TTL of a revoked lease", await one.remaining_ttl(), -1)
        since = time.monotonic()
        short = await client.lease(2)
        await client.put(b"lease/short", b"1", lease=short)
        event = await client.watch_once(b"lease/short", timeout=30, kind=aetcd.EventKind.DELETE)
        expect("the end", event.kv.key, b"lease/short")
        expect("after its TTL", time.monotonic() - since >= short.ttl, True)


async def lock():
    inside = passes = 0

    async def work():
        nonlocal inside, passes
        async with connect() as client:
            for _ in range(3):
                mine = client.lock(b"lock/m", ttl=30)
                expect("acquired", await mine.acquire(timeout=60), True)
                inside += 1
                expect("owners", inside, 1)
                expect("the owner's key", await mine.is_acquired(), True)
                passes += 1
                inside -= 1
                expect("released", await mine.release(), True)

    await asyncio.gather(*(work() for _ in range(4)))
    expect("passes", passes, 12)


async def maintenance():
    async with connect() as client:
        status = await client.status()
        expect("the leader has a name", bool(status.leader.name), True)
        expect("version", status.version.startswith("3."), True)
        members = [member.name async for member in client.members()]
        expect("members", members, [status.leader.name])
        alarms = [alarm async for alarm in client.list_alarms()]
        expect("alarms", alarms, [])
        await client.defragment()
        expect("a hash", await client.hash() > 0, True)
        with tempfile.TemporaryFile() as file:
            await client.snapshot(file)
            # Whole pages, then a SHA-256.
            expect("the snapshot's size", file.tell() % 512, 32)


async def watch():
    async with connect() as client:
        first = (await client.put(b"watch/a", b"1")).header.revision
        await client.put(b"watch/a", b"2")
        await client.delete(b"watch/a")
        seen = []
        events = await client.watch_prefix(b"watch/", start_revision=first, prev_kv=True)
        async for event in events:
            previous = event.prev_kv.value if event.prev_kv else b""
            seen.append((event.kind, event.kv.value, previous))
            if len(seen) == 3:
                break
        await events.cancel()
        puts = [("PUT", b"1", b""), ("PUT", b"2", b"1")]
        expect("events", seen, [*puts, ("DELETE", b"", b"2")])
        last = (await client.put(b"watch/b", b"1")).header.revision
        await client.compact(last, physical=True)
        async with refused("an old watch", str(last), aetcd.RevisionCompactedError):
            async for event in await client.watch(b"watch/a", start_revision=first):
                raise AssertionError(f"an old watch has an event: {event}")


async def admin(client):
    """Adds users with the client's own stubs: it has no methods for them."""
    stub = rpc.AuthStub(client.channel)
    permission = rpc.AuthRoleGrantPermissionRequest(name="own")
    permission.perm.permType = 2
    permission.perm.key = b"auth/"
    permission.perm.range_end = b"auth0"
    for call, request in [
        (stub.RoleAdd, rpc.AuthRoleAddRequest(name="root")),
        (stub.UserAdd, rpc.AuthUserAddRequest(name="root", password="r")),
        (stub.UserGrantRole, rpc.AuthUserGrantRoleRequest(user="root", role="root")),
        (stub.RoleAdd, rpc.AuthRoleAddRequest(name="own")),
        (stub.RoleGrantPermission, permission),
        (stub.UserAdd, rpc.AuthUserAddRequest(name="alice", password="a")),
        (stub.UserGrantRole, rpc.AuthUserGrantRoleRequest(user="alice", role="own")),
        (stub.AuthEnable, rpc.AuthEnableRequest()),
    ]:
        await call(request, timeout=20)


async def auth():
    async with connect() as client:
        await admin(client)
        async with refused("without a user", "user name is empty"):
            await client.get(b"auth/a")
    async with refused("a wrong password", "authentication failed"):
        await connect("alice", "wrong").connect()
    async with connect("alice", "a") as alice:
        await alice.put(b"auth/a", b"1")
        expect("own key", (await alice.get(b"auth/a")).value, b"1")
        async with refused("another key", "permission denied"):
            await alice.put(b"other", b"1")
    # This client never asks for a new token by itself, and whether an old one outlives a restart
    # depends on the server: connect again.
    ask("restart 0")
    async with connect("alice", "a") as alice:
        expect("after a restart", (await alice.get(b"auth/a")).value, b"1")
    async with connect("root", "r") as root:
        await root.put(b"other", b"1")
        expect("root reads all", len(list(await root.get_all())), 2)


async def json():
    """The JSON gateway, as OpenStack's client uses it."""
    url = endpoint()
    files = {}
    if url.scheme == "https":
        names = {"ca_cert": "CA", "cert_cert": "CERT", "cert_key": "KEY"}
        files = {name: os.environ[variable] for name, variable in names.items()}
    client = etcd3gw.client(host=url.hostname, port=url.port, protocol=url.scheme, **files)
    expect("version", client.status()["version"].startswith("3."), True)
    expect("members", len(client.members()), 1)
    expect("put", client.put("json/a", "1"), True)
    expect("get", client.get("json/a"), [b"1"])
    expect("create", client.create("json/a", "2"), False)
    expect("create", client.create("json/b", "2"), True)
    expect("replace", client.replace("json/a", "1", "3"), True)
    prefix = [(pair["key"], value) for value, pair in client.get_prefix("json/", sort_order="descend")]
    expect("descending", prefix, [(b"json/b", b"2"), (b"json/a", b"3")])
    lease = client.lease(60)
    client.put("json/lease", "1", lease=lease)
    expect("keys", lease.keys(), [b"json/lease"])
    expect("renewed", lease.refresh(), 60)
    expect("revoked", lease.revoke(), True)
    expect("keys of a revoked lease", client.get("json/lease"), [])
    with client.lock("m", ttl=30) as held:
        expect("acquired", held.is_acquired(), True)
    events, cancel = client.watch("json/w")
    client.put("json/w", "1")
    event = next(events)
    cancel()
    expect("event", (event["kv"]["key"], event["kv"]["value"]), (b"json/w", b"1"))
    expect("delete", client.delete("json/w"), True)
    expect("delete", client.delete_prefix("json/"), True)


SCENARIOS = {
    one.__name__: one for one in (kv, txn, lease, lock, maintenance, watch, auth, json)
}


async def main():
    for name in sys.argv[1:]:
        try:
            await asyncio.wait_for(SCENARIOS[name](), WITHIN)
        except Exception as error:
            traceback.print_exc()
            print(f"failed: {name}: {error!r}", flush=True)
            return 1
        print("passed:", name, flush=True)
    return 0


sys.exit(asyncio.run(main()))
