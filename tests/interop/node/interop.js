// Checks of a server with the released Node client. The arguments name the scenarios; the
// environment tells where the server is. A failed check ends the program with status 1.
'use strict';

const assert = require('node:assert');
const { once } = require('node:events');
const fs = require('node:fs');
const readline = require('node:readline');
const { setTimeout: wait } = require('node:timers/promises');
const { Etcd3 } = require('etcd3');

// Bounds each scenario.
const WITHIN_MS = 100_000;

const hosts = process.env.ENDPOINTS.split(',');
const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const clients = [];

function connect(options = {}) {
  const client = new Etcd3({ hosts, ...options });
  clients.push(client);
  return client;
}

// Lets the test do something to the cluster, and returns when it is done.
async function ask(what) {
  console.log(`ask: ${what}`);
  const { value } = await input.next();
  assert.strictEqual(value, 'done');
}

async function refused(what, promise, text) {
  await assert.rejects(promise, (error) => {
    assert.ok(error.message.includes(text), `${what}: got ${error.message}, want ${text}`);
    return true;
  });
}

async function kv() {
  const client = connect();
  await client.put('kv/a').value('1');
  const again = await client.put('kv/a').value('2').getPrevious();
  assert.strictEqual(again.value.toString(), '1');
  await client.put('kv/b').value('3');
  assert.strictEqual(await client.get('kv/a').string(), '2');
  assert.strictEqual(await client.get('kv/a').number(), 2);
  assert.strictEqual(await client.get('kv/none').string(), null);
  const all = client.getAll().prefix('kv/');
  assert.deepStrictEqual(await all.strings(), { 'kv/a': '2', 'kv/b': '3' });
  const sorted = client.getAll().prefix('kv/').sort('Key', 'Descend').limit(1);
  assert.deepStrictEqual(await sorted.keys(), ['kv/b']);
  assert.strictEqual(await client.getAll().prefix('kv/').count(), 2);
  const { header } = await client.get('kv/a').exec();
  await client.put('kv/a').value('4');
  assert.strictEqual(await client.get('kv/a').revision(header.revision).string(), '2');
  await refused('an empty key', client.put('').value('x').exec(), 'key is not provided');
  const inside = client.namespace('kv/');
  assert.strictEqual(await inside.get('b').string(), '3');
  assert.strictEqual((await client.delete().prefix('kv/').exec()).deleted, '2');
}

async function txn() {
  const client = connect();
  await client.put('txn/a').value('1');
  const done = await client
    .if('txn/a', 'Value', '==', '1')
    .and('txn/b', 'Create', '==', 0)
    .then(client.put('txn/b').value('2'), client.get('txn/b'))
    .else(client.delete().key('txn/a'))
    .commit();
  assert.strictEqual(done.succeeded, true);
  assert.strictEqual(done.responses[1].response_range.kvs[0].value.toString(), '2');
  const other = await client
    .if('txn/a', 'Version', '>', 1)
    .then(client.put('txn/a').value('wrong'))
    .else(client.delete().key('txn/a'))
    .commit();
  assert.strictEqual(other.succeeded, false);
  assert.strictEqual(other.responses[0].response_delete_range.deleted, '1');
  await client.put('txn/sum').value('0');
  const add = () =>
    client.stm({ retries: 100 }).transact(async (tx) => {
      const sum = await tx.get('txn/sum').number();
      await tx.put('txn/sum').value(sum + 1);
    });
  await Promise.all(Array.from({ length: 10 }, add));
  assert.strictEqual(await client.get('txn/sum').number(), 10);
}

async function lease() {
  const client = connect();
  const one = client.lease(60, { autoKeepAlive: false });
  await one.put('lease/a').value('1');
  const id = await one.grant();
  const told = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.strictEqual(told.grantedTTL, '60');
  assert.deepStrictEqual(told.keys.map(String), ['lease/a']);
  assert.strictEqual((await one.keepaliveOnce()).TTL, '60');
  await one.revoke();
  assert.strictEqual(await client.get('lease/a').string(), null);
  const since = Date.now();
  const lost = client.lease(2, { autoKeepAlive: false });
  await lost.put('lease/short').value('1');
  const { header } = await client.get('lease/short').exec();
  const watcher = await client.watch().key('lease/short').startRevision(header.revision).only('delete').create();
  await once(watcher, 'delete');
  assert.ok(Date.now() - since >= 2000, 'it ended too soon');
  await watcher.cancel();
}

async function lock() {
  const client = connect();
  const held = await client.lock('lock/try').ttl(30).acquire();
  await refused('a lock that is held', client.lock('lock/try').acquire(), 'Failed to acquire a lock');
  await held.release();
  await client.lock('lock/try').do(() => Promise.resolve());
}

async function election() {
  const client = connect();
  const elect = client.election('e', 30);
  const observer = await elect.observe();
  const first = elect.campaign('first');
  await first.wait();
  assert.strictEqual(await elect.leader(), 'first');
  const second = elect.campaign('second');
  await second.getCampaignKey();
  await first.proclaim('again');
  assert.strictEqual(await elect.leader(), 'again');
  await first.resign();
  await second.wait();
  assert.strictEqual(await elect.leader(), 'second');
  while (observer.leader() !== 'second') {
    await once(observer, 'change');
  }
  await observer.cancel();
  await second.resign();
  assert.strictEqual(await elect.leader(), undefined);
}

// A lease that the client renews, and a watch, outlive the end of each member.
async function kill() {
  const client = connect();
  const one = client.lease(10);
  let lost = null;
  one.on('lost', (error) => (lost = error));
  const { header } = await one.put('kill/owner').value('me').exec();
  const seen = [];
  const watcher = await client.watch().prefix('kill/').startRevision(header.revision).create();
  watcher.on('put', (pair) => seen.push(pair.value.toString()));
  for (let member = 0; member < hosts.length; member++) {
    await ask(`kill ${member}`);
    await until('a write while a member is down', async () => {
      await client.put('kill/during').value(String(member));
      return true;
    });
    await ask(`start ${member}`);
  }
  await until('all events', () => seen.includes('2'));
  assert.strictEqual(lost, null);
  assert.strictEqual(await client.get('kill/owner').string(), 'me');
  // A put that the client sent twice, since it didn't know its outcome, is there twice.
  assert.deepStrictEqual([...new Set(seen)], ['me', '0', '1', '2']);
  await one.revoke();
  await watcher.cancel();
}

// Waits for a condition; what fails is tried again, as this client doesn't by itself.
async function until(what, condition) {
  let last;
  for (const end = Date.now() + 60_000; Date.now() < end; await wait(50)) {
    try {
      if (await condition()) {
        return;
      }
    } catch (error) {
      last = error;
    }
  }
  throw new Error(`${what}: never: ${last}`);
}

async function watch() {
  const client = connect();
  const { header } = await client.put('watch/a').value('1');
  await client.put('watch/a').value('2');
  await client.delete().key('watch/a');
  const seen = [];
  const watcher = await client
    .watch()
    .prefix('watch/')
    .startRevision(header.revision)
    .withPreviousKV()
    .create();
  watcher.on('put', (pair, previous) => seen.push(`PUT ${pair.value} ${previous ? previous.value : ''}`));
  watcher.on('delete', (_, previous) => seen.push(`DELETE ${previous.value}`));
  await until('events', () => seen.length >= 3);
  assert.deepStrictEqual(seen, ['PUT 1 ', 'PUT 2 1', 'DELETE 2']);
  await watcher.cancel();
  const last = await client.put('watch/b').value('1');
  await client.kv.compact({ revision: last.header.revision, physical: true });
  const old = await client.watch().key('watch/a').startRevision(header.revision).create();
  const [error] = await once(old, 'error');
  // Servers send only the revision as the reason, and this client does not report it.
  assert.strictEqual(error.message, 'Watcher canceled: ');
}

async function tls() {
  const read = (name) => fs.readFileSync(process.env[name]);
  const rootCertificate = read('CA');
  const credentials = { rootCertificate, certChain: read('CERT'), privateKey: read('KEY') };
  const client = connect({ credentials });
  const { header } = await client.put('tls/a').value('before');
  const seen = [];
  const watcher = await client.watch().prefix('tls/').startRevision(header.revision).create();
  watcher.on('put', (pair) => seen.push(pair.value.toString()));
  await ask('renew certificate');
  await connect({ credentials }).put('tls/a').value('new connection');
  await client.put('tls/a').value('old connection');
  await until('events', () => seen.length >= 3);
  assert.deepStrictEqual(seen, ['before', 'new connection', 'old connection']);
  await watcher.cancel();
  const stranger = connect({ credentials: { rootCertificate }, dialTimeout: 3000 });
  await assert.rejects(stranger.get('tls/a').string(), 'a client without a certificate was served');
}

async function auth() {
  const open = connect();
  await open.role('root').create();
  const rootUser = await open.user('root').create('r');
  await rootUser.addRole('root');
  const own = await open.role('own').create();
  await own.grant({ permission: 'Readwrite', range: open.range({ prefix: 'auth/' }) });
  const user = await open.user('alice').create('a');
  await user.addRole('own');
  await refused('a user twice', open.user('alice').create('a'), 'already exists');
  await open.auth.authEnable();
  await refused('without a user', open.get('auth/a').string(), 'user name is empty');
  const wrong = connect({ auth: { username: 'alice', password: 'wrong' } });
  await refused('a wrong password', wrong.get('auth/a').string(), 'authentication failed');
  const alice = connect({ auth: { username: 'alice', password: 'a' } });
  const root = connect({ auth: { username: 'root', password: 'r' } });
  await alice.put('auth/a').value('1');
  await refused('another key', alice.put('other').value('1').exec(), 'permission denied');
  await refused('administration', alice.getUsers(), 'permission denied');
  await root.put('other').value('1');
  const permissions = await root.role('own').permissions();
  assert.strictEqual(permissions.length, 1);
  assert.deepStrictEqual((await root.user('alice').roles()).map((role) => role.name), ['own']);
  await ask('restart 0');
  await until('a new token', async () => (await alice.get('auth/a').string()) === '1');
  await root.user('alice').delete();
  await refused('a deleted user', connect({ auth: { username: 'alice', password: 'a' } }).get('auth/a').string(), 'authentication failed');
  await root.auth.authDisable();
  assert.strictEqual(await open.get('other').string(), '1');
}

const scenarios = { kv, txn, lease, lock, election, kill, watch, tls, auth };

async function main() {
  for (const name of process.argv.slice(2)) {
    const late = wait(WITHIN_MS, null, { ref: false }).then(() => {
      throw new Error(`took over ${WITHIN_MS} ms`);
    });
    try {
      await Promise.race([scenarios[name](), late]);
    } catch (error) {
      console.log(`failed: ${name}: ${error.stack}`);
      process.exit(1);
    }
    console.log(`passed: ${name}`);
  }
  clients.forEach((client) => client.close());
  process.exit(0);
}

main();
