import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.PutOption;

final class Keys {
    private Keys() {}

    static void kv() throws Exception {
        try (Client client = Interop.builder().build()) {
            KV kv = client.getKVClient();
            long first = Interop.get(kv.put(Interop.bytes("kv/a"), Interop.bytes("1"))).getHeader().getRevision();
            PutOption previous = PutOption.builder().withPrevKV().build();
            var again = Interop.get(kv.put(Interop.bytes("kv/a"), Interop.bytes("2"), previous));
            Interop.expect("previous", Interop.pair(again.getPrevKv()), "kv/a=1");
            Interop.get(kv.put(Interop.bytes("kv/b"), Interop.bytes("3")));
            GetOption.Builder prefix = GetOption.builder().isPrefix(true);
            Interop.expect("all", read(kv, prefix.build()), "kv/a=2 kv/b=3");
            var sorted = GetOption.builder().isPrefix(true).withSortField(GetOption.SortTarget.VALUE)
                    .withSortOrder(GetOption.SortOrder.DESCEND).withLimit(1);
            Interop.expect("sorted", read(kv, sorted.build()), "kv/b=3");
            var old = GetOption.builder().isPrefix(true).withRevision(first);
            Interop.expect("old", read(kv, old.build()), "kv/a=1");
            var keys = GetOption.builder().isPrefix(true).withKeysOnly(true);
            Interop.expect("keys", read(kv, keys.build()), "kv/a= kv/b=");
            var count = GetOption.builder().isPrefix(true).withCountOnly(true).build();
            Interop.expect("count", Interop.get(kv.get(Interop.bytes("kv/"), count)).getCount(), 2L);
            Interop.refused("an empty key", () -> kv.put(Interop.bytes(""), Interop.bytes("x")), "key is not provided");
            var future = GetOption.builder().withRevision(1L << 40).build();
            Interop.refused("a future revision", () -> kv.get(Interop.bytes("kv/a"), future), "future revision");
            var delete = DeleteOption.builder().isPrefix(true).withPrevKV(true).build();
            var deleted = Interop.get(kv.delete(Interop.bytes("kv/"), delete));
            Interop.expect("deleted", deleted.getDeleted(), 2L);
            Interop.expect("previous", Interop.pair(deleted.getPrevKvs().get(1)), "kv/b=3");
        }
    }

    private static String read(KV kv, GetOption option) throws Exception {
        return Interop.pairs(Interop.get(kv.get(Interop.bytes("kv/"), option)));
    }

    static void txn() throws Exception {
        try (Client client = Interop.builder().build()) {
            KV kv = client.getKVClient();
            Interop.get(kv.put(Interop.bytes("txn/a"), Interop.bytes("1")));
            var a = Interop.bytes("txn/a");
            var b = Interop.bytes("txn/b");
            TxnResponse done = Interop.get(kv.txn()
                    .If(new Cmp(a, Cmp.Op.EQUAL, CmpTarget.value(Interop.bytes("1"))),
                            new Cmp(b, Cmp.Op.EQUAL, CmpTarget.createRevision(0)),
                            new Cmp(a, Cmp.Op.GREATER, CmpTarget.version(0)))
                    .Then(Op.put(b, Interop.bytes("2"), PutOption.DEFAULT), Op.get(b, GetOption.DEFAULT),
                            Op.txn(new Cmp[0], new Op[] {Op.delete(a, DeleteOption.DEFAULT)}, new Op[0]))
                    .Else(Op.put(b, Interop.bytes("wrong"), PutOption.DEFAULT))
                    .commit());
            Interop.expect("succeeded", done.isSucceeded(), true);
            Interop.expect("read in a transaction", Interop.pairs(done.getGetResponses().get(0)), "txn/b=2");
            Interop.expect("nested", done.getTxnResponses().get(0).getDeleteResponses().get(0).getDeleted(), 1L);
            TxnResponse other = Interop.get(kv.txn()
                    .If(new Cmp(a, Cmp.Op.NOT_EQUAL, CmpTarget.modRevision(0)))
                    .Else(Op.get(b, GetOption.DEFAULT)).commit());
            Interop.expect("failed", other.isSucceeded(), false);
            Interop.expect("else", Interop.pairs(other.getGetResponses().get(0)), "txn/b=2");
            Op put = Op.put(b, Interop.bytes("3"), PutOption.DEFAULT);
            Interop.refused("a key twice", () -> kv.txn().Then(put, put).commit(), "duplicate key");
        }
    }
}
