package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func watches(ctx context.Context) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	put, err := c.Put(ctx, "watch/a", "1")
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { _, err := c.Put(ctx, "watch/a", "2"); return err },
		func() error { _, err := c.Put(ctx, "watch/b", "3"); return err },
		func() error { _, err := c.Delete(ctx, "watch/a"); return err },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	first := put.Header.Revision
	return errors.Join(
		history(ctx, c, first),
		filters(ctx, c, first),
		progress(ctx, c),
		fragments(ctx, c),
		canceled(ctx, c),
		compacted(ctx, c, first),
	)
}

// collect reads events until there are as many as asked for.
func collect(events clientv3.WatchChan, count int) ([]string, error) {
	var seen []string
	for answer := range events {
		if err := answer.Err(); err != nil {
			return nil, err
		}
		for _, event := range answer.Events {
			text := fmt.Sprintf("%s %s=%s", event.Type, event.Kv.Key, event.Kv.Value)
			if event.PrevKv != nil {
				text += fmt.Sprintf(" was %s", event.PrevKv.Value)
			}
			seen = append(seen, text)
		}
		if len(seen) >= count {
			return seen, nil
		}
	}
	return seen, errors.New("the watch ended")
}

func history(ctx context.Context, c *clientv3.Client, first int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, err := collect(c.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithPrevKV()), 4)
	if err != nil {
		return err
	}
	want := "PUT watch/a=1;PUT watch/a=2 was 1;PUT watch/b=3;DELETE watch/a= was 2"
	return expect("from an old revision, with previous pairs", strings.Join(seen, ";"), want)
}

func filters(ctx context.Context, c *clientv3.Client, first int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, err := collect(c.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithFilterPut()), 1)
	if err != nil {
		return err
	}
	return expect("only deletions", seen, "[DELETE watch/a=]")
}

// progress asks for the revision of a stream whose watches have no events to send.
func progress(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.Watch(ctx, "watch/quiet", clientv3.WithCreatedNotify())
	if created := <-events; !created.Created {
		return fmt.Errorf("the first answer must say created: %v", created)
	}
	put, err := c.Put(ctx, "watch/other", "1")
	if err != nil {
		return err
	}
	for {
		if err := c.RequestProgress(ctx); err != nil {
			return err
		}
		answer, open := <-events
		if !open || answer.Err() != nil || !answer.IsProgressNotify() {
			return fmt.Errorf("want progress: %v", answer)
		}
		if answer.Header.Revision >= put.Header.Revision {
			return nil
		}
	}
}

// fragments sends one revision whose events are larger than a message may be.
func fragments(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	large := strings.Repeat("x", 300_000)
	var first int64
	for key := range 8 {
		answer, err := c.Put(ctx, fmt.Sprintf("large/%d", key), large)
		if err != nil {
			return err
		}
		if key == 0 {
			first = answer.Header.Revision
		}
	}
	deleted, err := c.Delete(ctx, "large/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	// With the previous pairs of 8 deletions in one revision, a message would have 2.4 MB.
	whole, err := collect(c.Watch(ctx, "large/", clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithPrevKV(), clientv3.WithFragment()), 16)
	if err != nil {
		return err
	}
	size := 0
	for _, event := range whole {
		size += len(event)
	}
	return errors.Join(
		expect("deleted", deleted.Deleted, 8),
		expect("events", len(whole), 16),
		expect("all bytes", size > 16*300_000, true),
	)
}

func canceled(ctx context.Context, c *clientv3.Client) error {
	inner, cancel := context.WithCancel(ctx)
	events := c.Watch(inner, "watch/a", clientv3.WithCreatedNotify())
	<-events
	cancel()
	for range events {
	}
	return nil
}

func compacted(ctx context.Context, c *clientv3.Client, first int64) error {
	put, err := c.Put(ctx, "watch/last", "1")
	if err != nil {
		return err
	}
	if _, err := c.Compact(ctx, put.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	_, old := c.Get(ctx, "watch/a", clientv3.WithRev(first))
	_, again := c.Compact(ctx, put.Header.Revision)
	answer := <-c.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(first))
	return errors.Join(
		refused("an old read", old, rpctypes.ErrCompacted),
		refused("compacted twice", again, rpctypes.ErrCompacted),
		refused("an old watch", answer.Err(), rpctypes.ErrCompacted),
		expect("where it may begin", answer.CompactRevision, put.Header.Revision),
	)
}
