import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;

/** Curator, unmodified: its recipes. Usage: Recipes HOST:PORT,... */
public final class Recipes {
    private static final int PATIENCE_S = 30;
    private static String hosts;

    private interface Check {
        void run(CuratorFramework a, CuratorFramework b) throws Exception;
    }

    private static CuratorFramework connect() throws InterruptedException {
        CuratorFramework client =
            CuratorFrameworkFactory.newClient(hosts, 10_000, 10_000, new ExponentialBackoffRetry(50, 10));
        client.start();
        require(client.blockUntilConnected(PATIENCE_S, TimeUnit.SECONDS), "no connection");
        return client;
    }

    private static void require(boolean condition, Object what) {
        if (!condition) {
            throw new AssertionError(String.valueOf(what));
        }
    }

    private static void until(Callable<Boolean> condition, String what) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!condition.call()) {
            require(System.nanoTime() < end, "waited too long for " + what);
            Thread.sleep(10);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static List<Future<?>> parallel(List<Callable<Void>> tasks) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(tasks.size());
        List<Future<?>> running = new ArrayList<>();
        for (Callable<Void> task : tasks) {
            running.add(threads.submit(task));
        }
        for (Future<?> one : running) {
            one.get(PATIENCE_S, TimeUnit.SECONDS);
        }
        threads.shutdown();
        return running;
    }

    private static void nodes(CuratorFramework a, CuratorFramework b) throws Exception {
        a.create().creatingParentContainersIfNeeded().forPath("/curator/nodes/x", bytes("1"));
        b.sync().forPath("/curator/nodes/x");
        require(new String(b.getData().forPath("/curator/nodes/x")).equals("1"), "data");
        a.setData().withVersion(0).forPath("/curator/nodes/x", bytes("2"));
        try {
            b.setData().withVersion(0).forPath("/curator/nodes/x", bytes("3"));
            throw new AssertionError("an old version");
        } catch (KeeperException.BadVersionException expected) {
            // As it should be.
        }
        String name = a.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/curator/nodes/p-");
        require(name.contains("_c_"), name);
        a.delete().guaranteed().deletingChildrenIfNeeded().forPath("/curator/nodes");
    }

    private static void transactions(CuratorFramework a, CuratorFramework b) throws Exception {
        a.create().forPath("/curator/txn");
        CuratorOp create = a.transactionOp().create().forPath("/curator/txn/x");
        CuratorOp check = a.transactionOp().check().withVersion(0).forPath("/curator/txn");
        require(a.transaction().forOperations(check, create).size() == 2, "results");
        CuratorOp wrong = a.transactionOp().check().withVersion(7).forPath("/curator/txn");
        CuratorOp other = a.transactionOp().create().forPath("/curator/txn/y");
        try {
            a.transaction().forOperations(other, wrong);
            throw new AssertionError("a wrong version");
        } catch (KeeperException.BadVersionException expected) {
            require(a.checkExists().forPath("/curator/txn/y") == null, "y exists");
        }
    }

    private static void mutex(CuratorFramework a, CuratorFramework b) throws Exception {
        AtomicInteger inside = new AtomicInteger();
        AtomicInteger turns = new AtomicInteger();
        List<Callable<Void>> tasks = new ArrayList<>();
        for (CuratorFramework client : List.of(a, b, a, b)) {
            tasks.add(() -> {
                InterProcessMutex lock = new InterProcessMutex(client, "/curator/mutex");
                for (int turn = 0; turn < 5; turn++) {
                    require(lock.acquire(PATIENCE_S, TimeUnit.SECONDS), "the lock");
                    require(inside.incrementAndGet() == 1, "two holders");
                    turns.incrementAndGet();
                    Thread.sleep(5);
                    inside.decrementAndGet();
                    lock.release();
                }
                return null;
            });
        }
        parallel(tasks);
        require(turns.get() == 20, turns);
    }

    private static void readWrite(CuratorFramework a, CuratorFramework b) throws Exception {
        InterProcessReadWriteLock first = new InterProcessReadWriteLock(a, "/curator/rw");
        InterProcessReadWriteLock second = new InterProcessReadWriteLock(b, "/curator/rw");
        first.readLock().acquire();
        require(second.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "two readers");
        require(!second.writeLock().acquire(200, TimeUnit.MILLISECONDS), "a writer beside readers");
        first.readLock().release();
        second.readLock().release();
        require(second.writeLock().acquire(PATIENCE_S, TimeUnit.SECONDS), "the writer");
        require(!first.readLock().acquire(200, TimeUnit.MILLISECONDS), "a reader beside a writer");
        second.writeLock().release();
    }

    private static void semaphore(CuratorFramework a, CuratorFramework b) throws Exception {
        InterProcessSemaphoreV2 first = new InterProcessSemaphoreV2(a, "/curator/places", 2);
        InterProcessSemaphoreV2 second = new InterProcessSemaphoreV2(b, "/curator/places", 2);
        Lease one = first.acquire(PATIENCE_S, TimeUnit.SECONDS);
        Lease two = second.acquire(PATIENCE_S, TimeUnit.SECONDS);
        require(one != null && two != null, "two places");
        require(first.acquire(200, TimeUnit.MILLISECONDS) == null, "a third place");
        second.returnLease(two);
        Lease three = first.acquire(PATIENCE_S, TimeUnit.SECONDS);
        require(three != null, "a place again");
        first.returnAll(List.of(one, three));
    }

    private static void latch(CuratorFramework a, CuratorFramework b) throws Exception {
        LeaderLatch first = new LeaderLatch(a, "/curator/latch", "a");
        LeaderLatch second = new LeaderLatch(b, "/curator/latch", "b");
        first.start();
        require(first.await(PATIENCE_S, TimeUnit.SECONDS), "a leader");
        second.start();
        until(() -> second.getParticipants().size() == 2, "both participants");
        require(second.getLeader().getId().equals("a"), second.getLeader());
        first.close();
        require(second.await(PATIENCE_S, TimeUnit.SECONDS), "the next leader");
        second.close();
    }

    private static void selector(CuratorFramework a, CuratorFramework b) throws Exception {
        CountDownLatch turns = new CountDownLatch(4);
        AtomicInteger inside = new AtomicInteger();
        List<LeaderSelector> selectors = new ArrayList<>();
        for (CuratorFramework client : List.of(a, b)) {
            LeaderSelector selector = new LeaderSelector(client, "/curator/selector", new LeaderSelectorListenerAdapter() {
                @Override
                public void takeLeadership(CuratorFramework leader) throws Exception {
                    if (inside.incrementAndGet() == 1) {
                        turns.countDown();
                    }
                    Thread.sleep(10);
                    inside.decrementAndGet();
                }
            });
            selector.autoRequeue();
            selector.start();
            selectors.add(selector);
        }
        require(turns.await(PATIENCE_S, TimeUnit.SECONDS), "four turns");
        for (LeaderSelector selector : selectors) {
            selector.close();
        }
    }

    private static void barriers(CuratorFramework a, CuratorFramework b) throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(a, "/curator/barrier");
        barrier.setBarrier();
        DistributedBarrier other = new DistributedBarrier(b, "/curator/barrier");
        require(!other.waitOnBarrier(200, TimeUnit.MILLISECONDS), "the barrier");
        barrier.removeBarrier();
        require(other.waitOnBarrier(PATIENCE_S, TimeUnit.SECONDS), "no barrier");
        List<Callable<Void>> tasks = new ArrayList<>();
        for (CuratorFramework client : List.of(a, b)) {
            tasks.add(() -> {
                DistributedDoubleBarrier meeting = new DistributedDoubleBarrier(client, "/curator/meeting", 2);
                require(meeting.enter(PATIENCE_S, TimeUnit.SECONDS), "enter");
                require(meeting.leave(PATIENCE_S, TimeUnit.SECONDS), "leave");
                return null;
            });
        }
        parallel(tasks);
    }

    @SuppressWarnings("deprecation")
    private static void queue(CuratorFramework a, CuratorFramework b) throws Exception {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(a, "/curator/queue");
        for (String value : List.of("1", "2", "3")) {
            queue.offer(bytes(value));
        }
        SimpleDistributedQueue other = new SimpleDistributedQueue(b, "/curator/queue");
        for (String value : List.of("1", "2", "3")) {
            require(new String(other.poll(PATIENCE_S, TimeUnit.SECONDS)).equals(value), value);
        }
    }

    private static void counters(CuratorFramework a, CuratorFramework b) throws Exception {
        List<Callable<Void>> tasks = new ArrayList<>();
        for (CuratorFramework client : List.of(a, b)) {
            tasks.add(() -> {
                DistributedAtomicLong number =
                    new DistributedAtomicLong(client, "/curator/number", new ExponentialBackoffRetry(5, 29));
                for (int turn = 0; turn < 10; turn++) {
                    require(number.increment().succeeded(), "an increment");
                }
                return null;
            });
        }
        parallel(tasks);
        DistributedAtomicLong number =
            new DistributedAtomicLong(a, "/curator/number", new ExponentialBackoffRetry(5, 10));
        a.sync().forPath("/curator/number");
        require(number.get().postValue() == 20, number.get().postValue());
        SharedCount first = new SharedCount(a, "/curator/shared", 0);
        SharedCount second = new SharedCount(b, "/curator/shared", 0);
        first.start();
        second.start();
        first.setCount(7);
        until(() -> second.getCount() == 7, "the shared count");
        first.close();
        second.close();
    }

    private static void cache(CuratorFramework a, CuratorFramework b) throws Exception {
        a.create().forPath("/curator/cached", bytes("0"));
        LinkedBlockingQueue<String> seen = new LinkedBlockingQueue<>();
        CuratorCache cache = CuratorCache.build(b, "/curator/cached");
        cache.listenable().addListener(CuratorCacheListener.builder()
            .forCreates(node -> seen.add("created " + node.getPath()))
            .forChanges((old, node) -> seen.add("changed " + node.getPath()))
            .forDeletes(node -> seen.add("deleted " + node.getPath()))
            .build());
        cache.start();
        require("created /curator/cached".equals(seen.poll(PATIENCE_S, TimeUnit.SECONDS)), "the node");
        a.create().forPath("/curator/cached/x");
        require("created /curator/cached/x".equals(seen.poll(PATIENCE_S, TimeUnit.SECONDS)), "the child");
        a.setData().forPath("/curator/cached/x", bytes("1"));
        require("changed /curator/cached/x".equals(seen.poll(PATIENCE_S, TimeUnit.SECONDS)), "the change");
        a.delete().forPath("/curator/cached/x");
        require("deleted /curator/cached/x".equals(seen.poll(PATIENCE_S, TimeUnit.SECONDS)), "the end");
        cache.close();
    }

    private static void persistent(CuratorFramework a, CuratorFramework b) throws Exception {
        PersistentNode node = new PersistentNode(a, CreateMode.EPHEMERAL, false, "/curator/node", bytes("n"));
        node.start();
        require(node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "the node");
        b.delete().forPath("/curator/node");
        until(() -> b.checkExists().forPath("/curator/node") != null, "the node again");
        node.close();
        PersistentTtlNode ttl = new PersistentTtlNode(a, "/curator/ttl", 1_000, bytes("t"));
        ttl.start();
        require(ttl.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS), "the TTL node");
        ttl.close();
    }

    private static void discovery(CuratorFramework a, CuratorFramework b) throws Exception {
        ServiceInstance<Void> instance =
            ServiceInstance.<Void>builder().name("web").address("10.0.0.1").port(80).build();
        ServiceDiscovery<Void> provider = ServiceDiscoveryBuilder.builder(Void.class)
            .client(a).basePath("/curator/services").thisInstance(instance).build();
        provider.start();
        ServiceDiscovery<Void> consumer = ServiceDiscoveryBuilder.builder(Void.class)
            .client(b).basePath("/curator/services").build();
        consumer.start();
        until(() -> consumer.queryForInstances("web").size() == 1, "the instance");
        provider.close();
        until(() -> consumer.queryForInstances("web").isEmpty(), "its end");
        consumer.close();
    }

    private static void check(String name, Check check, CuratorFramework a, CuratorFramework b) throws Exception {
        check.run(a, b);
        System.out.println("ok " + name);
    }

    public static void main(String[] args) throws Exception {
        hosts = args[0];
        CuratorFramework a = connect();
        CuratorFramework b = connect();
        check("nodes", Recipes::nodes, a, b);
        check("transactions", Recipes::transactions, a, b);
        check("mutex", Recipes::mutex, a, b);
        check("readWrite", Recipes::readWrite, a, b);
        check("semaphore", Recipes::semaphore, a, b);
        check("latch", Recipes::latch, a, b);
        check("selector", Recipes::selector, a, b);
        check("barriers", Recipes::barriers, a, b);
        check("queue", Recipes::queue, a, b);
        check("counters", Recipes::counters, a, b);
        check("cache", Recipes::cache, a, b);
        check("persistent", Recipes::persistent, a, b);
        check("discovery", Recipes::discovery, a, b);
        a.close();
        b.close();
        System.exit(0);
    }
}
