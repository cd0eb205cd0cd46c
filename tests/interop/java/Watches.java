import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

final class Watches {
    private Watches() {}

    static void watch() throws Exception {
        try (Client client = Interop.builder().build()) {
            KV kv = client.getKVClient();
            var a = Interop.bytes("watch/a");
            long first = Interop.get(kv.put(a, Interop.bytes("1"))).getHeader().getRevision();
            Interop.get(kv.put(a, Interop.bytes("2")));
            Interop.get(kv.delete(a));
            String want = "PUT 1 was ;PUT 2 was 1;DELETE  was 2";
            Interop.expect("events", String.join(";", history(client, first)), want);
            progress(client);
            compacted(client, first);
        }
    }

    private static List<String> history(Client client, long first) throws Exception {
        List<String> seen = new ArrayList<>();
        var all = new CompletableFuture<List<String>>();
        var option = WatchOption.builder().isPrefix(true).withRevision(first).withPrevKV(true).build();
        try (var watcher = client.getWatchClient().watch(Interop.bytes("watch/"), option, answer -> {
            for (WatchEvent event : answer.getEvents()) {
                seen.add(event.getEventType() + " " + Interop.text(event.getKeyValue().getValue()) + " was "
                        + Interop.text(event.getPrevKV().getValue()));
            }
            if (seen.size() >= 3) {
                all.complete(seen);
            }
        }, all::completeExceptionally)) {
            return Interop.get(all);
        }
    }

    private static void progress(Client client) throws Exception {
        var told = new CompletableFuture<Long>();
        var created = new CompletableFuture<Boolean>();
        var option = WatchOption.builder().withCreateNotify(true).withProgressNotify(true).build();
        try (var watcher = client.getWatchClient().watch(Interop.bytes("watch/quiet"), option, answer -> {
            if (answer.isCreatedNotify()) {
                created.complete(true);
            }
            if (answer.isProgressNotify()) {
                told.complete(answer.getHeader().getRevision());
            }
        }, told::completeExceptionally)) {
            Interop.get(created);
            watcher.requestProgress();
            Interop.expect("progress", Interop.get(told) > 0, true);
        }
    }

    private static void compacted(Client client, long first) throws Exception {
        KV kv = client.getKVClient();
        long last = Interop.get(kv.put(Interop.bytes("watch/b"), Interop.bytes("1"))).getHeader().getRevision();
        Interop.get(kv.compact(last, CompactOption.builder().withCompactPhysical(true).build()));
        var ended = new CompletableFuture<Void>();
        var option = WatchOption.builder().withRevision(first).build();
        try (var watcher = client.getWatchClient().watch(Interop.bytes("watch/a"), option,
                answer -> { }, ended::completeExceptionally)) {
            Interop.get(ended);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof CompactedException compacted) {
                Interop.expect("where it may begin", compacted.getCompactedRevision(), last);
                return;
            }
            throw error;
        }
    }
}
