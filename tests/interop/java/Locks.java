import io.etcd.jetcd.Client;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.Lock;
import io.etcd.jetcd.election.LeaderResponse;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;

/** The Lock and Election services, which this client uses and most others don't. */
final class Locks {
    private Locks() {}

    static void lock() throws Exception {
        try (Client client = Interop.builder().build()) {
            Lock locks = client.getLockClient();
            var name = Interop.bytes("lock/m");
            long first = Interop.get(client.getLeaseClient().grant(60)).getID();
            long second = Interop.get(client.getLeaseClient().grant(60)).getID();
            var held = Interop.get(locks.lock(name, first)).getKey();
            Interop.expect("the key", Interop.text(held), "lock/m/" + Long.toHexString(first));
            Interop.expect("the same session again", Interop.get(locks.lock(name, first)).getKey(), held);
            var waiting = locks.lock(name, second);
            var third = client.getLeaseClient();
            Interop.expect("it waits", waiting.isDone(), false);
            Interop.get(locks.unlock(held));
            var next = Interop.get(waiting).getKey();
            Interop.expect("the next key", Interop.text(next), "lock/m/" + Long.toHexString(second));
            // The end of a lease frees its locks.
            Interop.get(third.revoke(second));
            Interop.get(locks.lock(name, first));
            Interop.refused("a lease that ended", () -> locks.lock(name, second), "requested lease not found");
        }
    }

    static void election() throws Exception {
        try (Client client = Interop.builder().build()) {
            Election elections = client.getElectionClient();
            var name = Interop.bytes("elect/e");
            Interop.refused("no leader", () -> elections.leader(name), "NoLeaderException");
            Queue<String> observed = new ConcurrentLinkedQueue<>();
            var last = new CompletableFuture<Void>();
            elections.observe(name, new Election.Listener() {
                @Override
                public void onNext(LeaderResponse answer) {
                    String value = Interop.text(answer.getKv().getValue());
                    observed.add(value);
                    if (value.equals("second")) {
                        last.complete(null);
                    }
                }

                @Override
                public void onError(Throwable error) {
                    last.completeExceptionally(error);
                }

                @Override
                public void onCompleted() {
                    last.completeExceptionally(new AssertionError("the observation ended"));
                }
            });
            long first = Interop.get(client.getLeaseClient().grant(60)).getID();
            long second = Interop.get(client.getLeaseClient().grant(60)).getID();
            var leader = Interop.get(elections.campaign(name, first, Interop.bytes("first"))).getLeader();
            Interop.expect("the leader's lease", leader.getLease(), first);
            Interop.get(elections.proclaim(leader, Interop.bytes("again")));
            Interop.expect("the leader", Interop.text(Interop.get(elections.leader(name)).getKv().getValue()), "again");
            var waiting = elections.campaign(name, second, Interop.bytes("second"));
            Interop.get(elections.resign(leader));
            var next = Interop.get(waiting).getLeader();
            Interop.get(last);
            Interop.refused("a former leader", () -> elections.proclaim(leader, Interop.bytes("x")), "NotLeaderException");
            Interop.get(elections.resign(next));
        }
    }
}
