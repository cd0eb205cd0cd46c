import static java.util.concurrent.TimeUnit.SECONDS;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.kv.GetResponse;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;

/**
 * Checks of a server with the released Java client. The arguments name the scenarios; the
 * environment tells where the server is. A failed check ends the program with status 1.
 */
public final class Interop {
    /** Bounds each call. */
    private static final long CALL_SECONDS = 60;

    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    interface Scenario {
        void run() throws Exception;
    }

    private static final Map<String, Scenario> SCENARIOS = Map.of(
            "kv", Keys::kv,
            "txn", Keys::txn,
            "lease", Leases::lease,
            "kill", Leases::kill,
            "watch", Watches::watch,
            "lock", Locks::lock,
            "election", Locks::election,
            "tls", Security::tls,
            "auth", Security::auth);

    private Interop() {}

    public static void main(String[] names) {
        for (String name : names) {
            try {
                SCENARIOS.get(name).run();
            } catch (Throwable error) {
                error.printStackTrace();
                System.out.println("failed: " + name + ": " + error);
                System.exit(1);
            }
            System.out.println("passed: " + name);
        }
        // The client's threads would keep the program alive.
        System.exit(0);
    }

    static String[] endpoints() {
        return System.getenv("ENDPOINTS").split(",");
    }

    static ClientBuilder builder() {
        return Client.builder().endpoints(endpoints());
    }

    /** Lets the test do something to the cluster, and returns when it is done. */
    static void ask(String what) throws Exception {
        System.out.println("ask: " + what);
        expect("the test's answer to " + what, ANSWERS.readLine(), "done");
    }

    static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    static String text(ByteSequence bytes) {
        return bytes.toString(StandardCharsets.UTF_8);
    }

    static String pairs(GetResponse answer) {
        return answer.getKvs().stream().map(Interop::pair).collect(Collectors.joining(" "));
    }

    static String pair(KeyValue pair) {
        return text(pair.getKey()) + "=" + text(pair.getValue());
    }

    static <T> T get(CompletableFuture<T> future) throws Exception {
        return future.get(CALL_SECONDS, SECONDS);
    }

    /** Repeats an idempotent call that fails while a member is down or has forgotten its tokens. */
    static <T> T untilServed(Callable<CompletableFuture<T>> call) throws Exception {
        long deadline = System.nanoTime() + SECONDS.toNanos(CALL_SECONDS);
        while (true) {
            try {
                return get(call.call());
            } catch (ExecutionException error) {
                if (System.nanoTime() > deadline) {
                    throw error;
                }
            }
        }
    }

    static void expect(String what, Object got, Object want) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    static void refused(String what, Callable<CompletableFuture<?>> call, String message) throws Exception {
        try {
            get(call.call());
        } catch (ExecutionException error) {
            if (!error.getMessage().contains(message)) {
                throw new AssertionError(what + ": got " + error.getMessage() + ", want " + message, error);
            }
            return;
        }
        throw new AssertionError(what + ": nothing was refused");
    }
}
