package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func leases(ctx context.Context) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	granted, err := c.Grant(ctx, 60)
	if err != nil {
		return err
	}
	if _, err := c.Put(ctx, "lease/a", "1", clientv3.WithLease(granted.ID)); err != nil {
		return err
	}
	once, err := c.KeepAliveOnce(ctx, granted.ID)
	if err != nil {
		return err
	}
	told, err := c.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	listed, err := c.Leases(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, one := range listed.Leases {
		found = found || one.ID == granted.ID
	}
	if err := errors.Join(
		expect("TTL", once.TTL, 60),
		expect("granted TTL", told.GrantedTTL, 60),
		expect("keys", fmt.Sprintf("%s", told.Keys), "[lease/a]"),
		expect("listed", found, true),
	); err != nil {
		return err
	}
	if _, err := c.Revoke(ctx, granted.ID); err != nil {
		return err
	}
	gone, err := c.Get(ctx, "lease/a")
	if err != nil {
		return err
	}
	_, again := c.Revoke(ctx, granted.ID)
	_, kept := c.KeepAliveOnce(ctx, granted.ID)
	after, err := c.TimeToLive(ctx, granted.ID)
	if err != nil {
		return err
	}
	return errors.Join(
		expect("keys of a revoked lease", gone.Count, 0),
		refused("revoked twice", again, rpctypes.ErrLeaseNotFound),
		refused("kept alive after the revocation", kept, rpctypes.ErrLeaseNotFound),
		expect("TTL of a revoked lease", after.TTL, -1),
		expiry(ctx, c),
	)
}

// expiry checks that a lease does not end before its TTL, and that watchers see its key's deletion.
func expiry(ctx context.Context, c *clientv3.Client) error {
	// The shortest TTL on a cluster with default timeouts is 2 s.
	since := time.Now()
	granted, err := c.Grant(ctx, 2)
	if err != nil {
		return err
	}
	put, err := c.Put(ctx, "lease/short", "1", clientv3.WithLease(granted.ID))
	if err != nil {
		return err
	}
	for answer := range c.Watch(ctx, "lease/short", clientv3.WithRev(put.Header.Revision+1)) {
		if err := answer.Err(); err != nil {
			return err
		}
		for _, event := range answer.Events {
			return errors.Join(
				expect("event", event.Type, clientv3.EventTypeDelete),
				expect("after its TTL", time.Since(since) >= time.Duration(granted.TTL)*time.Second, true),
			)
		}
	}
	return errors.New("the watch ended before the lease did")
}

// leasesSurviveAKilledMember keeps a lease alive and a watch open while each member in turn is
// killed and started again.
func leasesSurviveAKilledMember(ctx context.Context) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	granted, err := c.Grant(ctx, 5)
	if err != nil {
		return err
	}
	put, err := c.Put(ctx, "kill/owner", "me", clientv3.WithLease(granted.ID))
	if err != nil {
		return err
	}
	kept, err := c.KeepAlive(ctx, granted.ID)
	if err != nil {
		return err
	}
	lost := make(chan struct{})
	go func() {
		for range kept {
		}
		close(lost)
	}()
	events := c.Watch(ctx, "kill/", clientv3.WithPrefix(), clientv3.WithRev(put.Header.Revision))
	for member := range endpoints() {
		if err := ask(fmt.Sprintf("kill %d", member)); err != nil {
			return err
		}
		// If the leader is killed during the write, the outcome is unknown: retry.
		for {
			_, err := c.Put(ctx, "kill/during", fmt.Sprint(member))
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("a write while member %d is down: %w", member, err)
			}
		}
		if err := ask(fmt.Sprintf("start %d", member)); err != nil {
			return err
		}
	}
	// Longer than the TTL after the last kill: without renewals the lease would end.
	select {
	case <-lost:
		return errors.New("the client lost its lease")
	case <-time.After(6 * time.Second):
	}
	owner, err := c.Get(ctx, "kill/owner")
	if err != nil {
		return err
	}
	if err := expect("the owner", pairs(owner), "kill/owner=me"); err != nil {
		return err
	}
	var seen []string
	for answer := range events {
		if err := answer.Err(); err != nil {
			return err
		}
		for _, event := range answer.Events {
			if value := string(event.Kv.Value); len(seen) == 0 || seen[len(seen)-1] != value {
				seen = append(seen, value)
			}
		}
		if len(seen) >= 1+len(endpoints()) {
			return expect("events in order", seen, "[me 0 1 2]")
		}
	}
	return errors.New("the watch ended")
}
