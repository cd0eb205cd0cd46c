package main

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
)

func kv(ctx context.Context) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var revisions []int64
	for _, pair := range [][2]string{{"kv/a", "1"}, {"kv/b", "2"}, {"kv/c", "3"}, {"kv/a", "4"}} {
		answer, err := c.Put(ctx, pair[0], pair[1], clientv3.WithPrevKV())
		if err != nil {
			return err
		}
		revisions = append(revisions, answer.Header.Revision)
		if previous := answer.PrevKv; (previous != nil) != (pair[1] == "4") {
			return errors.New("only the last put has a previous pair")
		}
	}
	first := revisions[0]
	gets := []struct {
		name    string
		options []clientv3.OpOption
		want    string
		more    bool
		count   int64
	}{
		{"all", nil, "kv/a=4 kv/b=2 kv/c=3", false, 3},
		{"descending", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)}, "kv/c=3 kv/b=2 kv/a=4", false, 3},
		{"by value", []clientv3.OpOption{clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend)}, "kv/b=2 kv/c=3 kv/a=4", false, 3},
		{"limit", []clientv3.OpOption{clientv3.WithLimit(2)}, "kv/a=4 kv/b=2", true, 3},
		{"old", []clientv3.OpOption{clientv3.WithRev(first + 1)}, "kv/a=1 kv/b=2", false, 2},
		{"keys", []clientv3.OpOption{clientv3.WithKeysOnly()}, "kv/a= kv/b= kv/c=", false, 3},
		{"count", []clientv3.OpOption{clientv3.WithCountOnly()}, "", false, 3},
		{"changed", []clientv3.OpOption{clientv3.WithMinModRev(first + 2)}, "kv/a=4 kv/c=3", false, 3},
		{"serializable", []clientv3.OpOption{clientv3.WithMaxCreateRev(first), clientv3.WithSerializable()}, "kv/a=4", false, 3},
	}
	for _, one := range gets {
		client := c
		if one.name == "serializable" {
			// A member may lag behind: ask the one that has just served a linearizable read.
			if client, err = connect(func(config *clientv3.Config) { config.Endpoints = endpoints()[:1] }); err != nil {
				return err
			}
			defer client.Close()
			if _, err = client.Get(ctx, "kv/a"); err != nil {
				return err
			}
		}
		answer, err := client.Get(ctx, "kv/", append(one.options, clientv3.WithPrefix())...)
		if err != nil {
			return err
		}
		if err := errors.Join(
			expect(one.name, pairs(answer), one.want),
			expect(one.name+": more", answer.More, one.more),
			expect(one.name+": count", answer.Count, one.count),
		); err != nil {
			return err
		}
	}
	answer, err := c.Get(ctx, "kv/a")
	if err != nil {
		return err
	}
	pair := answer.Kvs[0]
	if err := expect("versions", []int64{pair.CreateRevision, pair.ModRevision, pair.Version}, []int64{first, first + 3, 2}); err != nil {
		return err
	}
	if err := kvRefusals(ctx, c); err != nil {
		return err
	}
	inside := namespace.NewKV(c, "kv/")
	deleted, err := inside.Delete(ctx, "a", clientv3.WithFromKey(), clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	return errors.Join(
		expect("deleted", deleted.Deleted, 3),
		expect("the namespace", string(deleted.PrevKvs[0].Key), "a"),
	)
}

func kvRefusals(ctx context.Context, c *clientv3.Client) error {
	_, empty := c.Put(ctx, "", "x")
	_, missing := c.Put(ctx, "kv/none", "", clientv3.WithIgnoreValue())
	_, future := c.Get(ctx, "kv/a", clientv3.WithRev(1<<40))
	_, lease := c.Put(ctx, "kv/a", "x", clientv3.WithLease(987654321))
	return errors.Join(
		refused("an empty key", empty, rpctypes.ErrEmptyKey),
		refused("a missing key", missing, rpctypes.ErrKeyNotFound),
		refused("a future revision", future, rpctypes.ErrFutureRev),
		refused("an unknown lease", lease, rpctypes.ErrLeaseNotFound),
	)
}

func txn(ctx context.Context) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Put(ctx, "txn/a", "1"); err != nil {
		return err
	}
	answer, err := c.Txn(ctx).
		If(
			clientv3.Compare(clientv3.Value("txn/a"), "=", "1"),
			clientv3.Compare(clientv3.Version("txn/a"), ">", 0),
			clientv3.Compare(clientv3.CreateRevision("txn/none"), "=", 0),
			clientv3.Compare(clientv3.ModRevision("txn/a"), "!=", 0),
			clientv3.Compare(clientv3.LeaseValue("txn/a"), "=", 0),
		).
		Then(
			clientv3.OpPut("txn/b", "2", clientv3.WithPrevKV()),
			clientv3.OpGet("txn/b"),
			clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value("txn/"), "<", "2").WithPrefix()},
				[]clientv3.Op{clientv3.OpPut("txn/c", "inner")},
				[]clientv3.Op{clientv3.OpDelete("txn/a")},
			),
		).
		Else(clientv3.OpPut("txn/b", "wrong")).Commit()
	if err != nil {
		return err
	}
	nested := answer.Responses[2].GetResponseTxn()
	if err := errors.Join(
		expect("succeeded", answer.Succeeded, true),
		expect("read in a transaction", string(answer.Responses[1].GetResponseRange().Kvs[0].Value), "2"),
		// All comparisons come before the first write.
		expect("nested", nested.Succeeded, true),
	); err != nil {
		return err
	}
	other, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value("txn/b"), ">", "2")).
		Else(clientv3.OpGet("txn/", clientv3.WithPrefix())).Commit()
	if err != nil {
		return err
	}
	_, twice := c.Txn(ctx).Then(clientv3.OpPut("txn/d", "1"), clientv3.OpPut("txn/d", "2")).Commit()
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet("txn/a")
	}
	_, tooMany := c.Txn(ctx).Then(many...).Commit()
	return errors.Join(
		expect("else", other.Succeeded, false),
		expect("else reads", len(other.Responses[0].GetResponseRange().Kvs), 3),
		refused("a key twice", twice, rpctypes.ErrDuplicateKey),
		refused("too many operations", tooMany, rpctypes.ErrTooManyOps),
	)
}
