package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// workers is the number of clients that contend in each check.
const workers = 5

func concurrencyPackage(ctx context.Context) error {
	c, err := connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return errors.Join(locks(ctx, c), elections(ctx, c), stm(ctx))
}

// together runs a function in all workers.
func together(work func(worker int) error) error {
	var group sync.WaitGroup
	failures := make([]error, workers)
	for worker := range workers {
		group.Go(func() { failures[worker] = work(worker) })
	}
	group.Wait()
	return errors.Join(failures...)
}

func locks(ctx context.Context, c *clientv3.Client) error {
	inside, passes := 0, 0
	if err := together(func(int) error {
		session, err := concurrency.NewSession(c, concurrency.WithTTL(30))
		if err != nil {
			return err
		}
		defer session.Close()
		mutex := concurrency.NewMutex(session, "lock/m")
		for range 4 {
			if err := mutex.Lock(ctx); err != nil {
				return err
			}
			inside++
			if inside != 1 {
				return fmt.Errorf("%d owners at once", inside)
			}
			passes++
			// Stock etcd answers a transaction without operations from a member's own, perhaps
			// old, state. The read makes it current.
			owner, err := c.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpGet(mutex.Key())).Commit()
			if err != nil {
				return err
			}
			if !owner.Succeeded {
				return errors.New("the owner's key isn't there")
			}
			inside--
			if err := mutex.Unlock(ctx); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	first, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	second, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	defer second.Close()
	held, other := concurrency.NewMutex(first, "lock/try"), concurrency.NewMutex(second, "lock/try")
	if err := held.TryLock(ctx); err != nil {
		return err
	}
	taken := other.TryLock(ctx)
	// The end of a session frees its locks.
	if err := first.Close(); err != nil {
		return err
	}
	return errors.Join(
		expect("passes", passes, 4*workers),
		refused("a lock that is held", taken, concurrency.ErrLocked),
		other.Lock(ctx),
	)
}

func elections(ctx context.Context, c *clientv3.Client) error {
	observer, err := concurrency.NewSession(c)
	if err != nil {
		return err
	}
	defer observer.Close()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	observed := make(chan map[string]bool, 1)
	events := concurrency.NewElection(observer, "elect/e").Observe(watching)
	go func() {
		seen := map[string]bool{}
		for answer := range events {
			seen[string(answer.Kvs[0].Value)] = true
			if seen["last"] {
				break
			}
		}
		observed <- seen
	}()
	if err := together(func(worker int) error {
		session, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		defer session.Close()
		election := concurrency.NewElection(session, "elect/e")
		if err := election.Campaign(ctx, fmt.Sprint(worker)); err != nil {
			return err
		}
		if err := election.Proclaim(ctx, "again "+fmt.Sprint(worker)); err != nil {
			return err
		}
		leader, err := election.Leader(ctx)
		if err != nil {
			return err
		}
		return errors.Join(
			expect("the leader", string(leader.Kvs[0].Value), "again "+fmt.Sprint(worker)),
			election.Resign(ctx),
		)
	}); err != nil {
		return err
	}
	last := concurrency.NewElection(observer, "elect/e")
	_, none := last.Leader(ctx)
	if err := errors.Join(
		refused("no leader", none, concurrency.ErrElectionNoLeader),
		last.Campaign(ctx, "last"),
	); err != nil {
		return err
	}
	select {
	case seen := <-observed:
		return expect("the observer saw the last leader", seen["last"], true)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stm moves amounts between accounts; the sum must stay the same.
func stm(ctx context.Context) error {
	const accounts, start = 4, 100
	// STM reads at one revision. A member that lags behind refuses it, so use only one member.
	c, err := connect(func(config *clientv3.Config) { config.Endpoints = endpoints()[:1] })
	if err != nil {
		return err
	}
	defer c.Close()
	for account := range accounts {
		if _, err := c.Put(ctx, fmt.Sprintf("stm/%d", account), strconv.Itoa(start)); err != nil {
			return err
		}
	}
	for _, isolation := range []concurrency.Isolation{
		concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads,
	} {
		if err := together(func(worker int) error {
			for round := range 5 {
				from, to := fmt.Sprintf("stm/%d", (worker+round)%accounts), fmt.Sprintf("stm/%d", (worker+round+1)%accounts)
				_, err := concurrency.NewSTM(c, func(s concurrency.STM) error {
					a, err := strconv.Atoi(s.Get(from))
					if err != nil {
						return err
					}
					b, err := strconv.Atoi(s.Get(to))
					if err != nil {
						return err
					}
					s.Put(from, strconv.Itoa(a-1))
					s.Put(to, strconv.Itoa(b+1))
					return nil
				}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(ctx))
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	all, err := c.Get(ctx, "stm/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	sum := 0
	for _, pair := range all.Kvs {
		amount, err := strconv.Atoi(string(pair.Value))
		if err != nil {
			return err
		}
		sum += amount
	}
	return expect("the sum", sum, accounts*start)
}
