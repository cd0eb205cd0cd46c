import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.Observers;
import io.etcd.jetcd.watch.WatchEvent;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

final class Leases {
    private Leases() {}

    static void lease() throws Exception {
        try (Client client = Interop.builder().build()) {
            KV kv = client.getKVClient();
            Lease leases = client.getLeaseClient();
            long id = Interop.get(leases.grant(60)).getID();
            put(kv, "lease/a", "1", id);
            var keys = LeaseOption.builder().withAttachedKeys().build();
            var told = Interop.get(leases.timeToLive(id, keys));
            Interop.expect("granted TTL", told.getGrantedTTL(), 60L);
            Interop.expect("keys", Interop.text(told.getKeys().get(0)), "lease/a");
            Interop.expect("renewed", Interop.get(leases.keepAliveOnce(id)).getTTL(), 60L);
            Interop.get(leases.revoke(id));
            Interop.expect("keys of a revoked lease", Interop.get(kv.get(Interop.bytes("lease/a"))).getCount(), 0L);
            Interop.refused("revoked twice", () -> leases.revoke(id), "requested lease not found");
            Interop.expect("TTL of a revoked lease", Interop.get(leases.timeToLive(id, keys)).getTTL(), -1L);
            expiry(client);
        }
    }

    private static void expiry(Client client) throws Exception {
        long since = System.nanoTime();
        long id = Interop.get(client.getLeaseClient().grant(2)).getID();
        long revision = put(client.getKVClient(), "lease/short", "1", id);
        var deleted = new CompletableFuture<WatchEvent>();
        var option = WatchOption.builder().withRevision(revision).withNoPut(true).build();
        try (var watcher = client.getWatchClient().watch(Interop.bytes("lease/short"), option,
                answer -> answer.getEvents().forEach(deleted::complete), deleted::completeExceptionally)) {
            WatchEvent event = Interop.get(deleted);
            Interop.expect("the end", event.getEventType(), WatchEvent.EventType.DELETE);
            Interop.expect("after its TTL", System.nanoTime() - since >= TimeUnit.SECONDS.toNanos(2), true);
        }
    }

    private static long put(KV kv, String key, String value, long lease) throws Exception {
        var option = PutOption.builder().withLeaseId(lease).build();
        var answer = Interop.get(kv.put(Interop.bytes(key), Interop.bytes(value), option));
        return answer.getHeader().getRevision();
    }

    /** A lease that the client renews outlives the end of each member. */
    static void kill() throws Exception {
        try (Client client = Interop.builder().build()) {
            KV kv = client.getKVClient();
            Lease leases = client.getLeaseClient();
            // Longer than the client takes to find another member.
            long id = Interop.get(leases.grant(15)).getID();
            put(kv, "kill/owner", "me", id);
            var renewals = new java.util.concurrent.atomic.AtomicReference<>(new CountDownLatch(1));
            leases.keepAlive(id, Observers.<LeaseKeepAliveResponse>builder()
                    .onNext(answer -> renewals.get().countDown()).build());
            for (int member = 0; member < Interop.endpoints().length; member++) {
                Interop.ask("kill " + member);
                var value = Interop.bytes("" + member);
                Interop.untilServed(() -> kv.put(Interop.bytes("kill/during"), value));
                Interop.ask("start " + member);
                renewals.set(new CountDownLatch(1));
                boolean renewed = renewals.get().await(40, TimeUnit.SECONDS);
                Interop.expect("renewed after the end of member " + member, renewed, true);
            }
            Interop.expect("the owner", Interop.pairs(Interop.get(kv.get(Interop.bytes("kill/owner")))), "kill/owner=me");
        }
    }
}
