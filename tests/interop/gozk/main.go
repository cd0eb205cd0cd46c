// go-zookeeper, unmodified. Usage: gozk HOST:PORT,...
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

const patience = 30 * time.Second

var hosts []string

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func require(ok bool, what ...any) {
	if !ok {
		panic(fmt.Sprint(what...))
	}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func connect() *zk.Conn {
	conn, events, err := zk.Connect(hosts, 10*time.Second, zk.WithLogger(quiet{}))
	must(err)
	timeout := time.After(patience)
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return conn
			}
		case <-timeout:
			panic("no session")
		}
	}
}

func next(events <-chan zk.Event) zk.Event {
	select {
	case event := <-events:
		return event
	case <-time.After(patience):
		panic("no event")
	}
}

func nodes(a, b *zk.Conn) {
	open := zk.WorldACL(zk.PermAll)
	_, err := a.Create("/go", []byte("1"), 0, open)
	must(err)
	_, err = b.Sync("/go")
	must(err)
	data, stat, err := b.Get("/go")
	must(err)
	require(string(data) == "1" && stat.Version == 0, string(data), stat.Version)
	_, err = a.Set("/go", []byte("2"), 0)
	must(err)
	_, err = b.Set("/go", []byte("3"), 0)
	require(errors.Is(err, zk.ErrBadVersion), err)
	_, err = a.Create("/go", nil, 0, open)
	require(errors.Is(err, zk.ErrNodeExists), err)
	name, err := a.CreateProtectedEphemeralSequential("/go/p-", nil, open)
	must(err)
	require(strings.HasSuffix(name, "0000000000"), name)
	require(errors.Is(a.Delete("/go", -1), zk.ErrNotEmpty), "a parent was deleted")
	must(a.Delete(name, -1))
	_, err = a.CreateContainer("/go-container", nil, 4, open)
	must(err)
	_, err = a.CreateTTL("/go-ttl", nil, 5, open, time.Hour)
	must(err)
}

func watches(a, b *zk.Conn) {
	_, _, created, err := b.ExistsW("/go/new")
	must(err)
	_, _, children, err := b.ChildrenW("/go")
	must(err)
	_, err = a.Create("/go/new", nil, 0, zk.WorldACL(zk.PermAll))
	must(err)
	event := next(created)
	require(event.Type == zk.EventNodeCreated && event.Path == "/go/new", event)
	require(next(children).Type == zk.EventNodeChildrenChanged, "children")
	_, _, changed, err := b.GetW("/go/new")
	must(err)
	_, err = a.Set("/go/new", []byte("x"), -1)
	must(err)
	require(next(changed).Type == zk.EventNodeDataChanged, "data")
	_, _, deleted, err := b.GetW("/go/new")
	must(err)
	must(a.Delete("/go/new", -1))
	require(next(deleted).Type == zk.EventNodeDeleted, "the end")
}

func multis(a, b *zk.Conn) {
	open := zk.WorldACL(zk.PermAll)
	results, err := a.Multi(
		&zk.CreateRequest{Path: "/go/m", Data: []byte("m"), Acl: open},
		&zk.SetDataRequest{Path: "/go/m", Data: []byte("n"), Version: 0},
		&zk.CheckVersionRequest{Path: "/go/m", Version: 1},
	)
	must(err)
	require(len(results) == 3 && results[0].String == "/go/m", results)
	_, err = a.Multi(
		&zk.CreateRequest{Path: "/go/q", Acl: open},
		&zk.CheckVersionRequest{Path: "/go/m", Version: 9},
	)
	require(errors.Is(err, zk.ErrBadVersion), err)
	_, err = b.Sync("/go")
	must(err)
	exists, _, err := b.Exists("/go/q")
	must(err)
	require(!exists, "a part of a multi")
}

func locks(a, b *zk.Conn) {
	var inside, turns atomic.Int32
	var group sync.WaitGroup
	for _, conn := range []*zk.Conn{a, b, a, b} {
		group.Add(1)
		go func() {
			defer group.Done()
			lock := zk.NewLock(conn, "/go-lock", zk.WorldACL(zk.PermAll))
			for range 5 {
				must(lock.Lock())
				require(inside.Add(1) == 1, "two holders")
				turns.Add(1)
				time.Sleep(5 * time.Millisecond)
				inside.Add(-1)
				must(lock.Unlock())
			}
		}()
	}
	group.Wait()
	require(turns.Load() == 20, turns.Load())
}

func sessions(a, b *zk.Conn) {
	other := connect()
	_, err := other.Create("/go/here", nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll))
	must(err)
	_, err = b.Sync("/go")
	must(err)
	exists, _, gone, err := b.ExistsW("/go/here")
	must(err)
	require(exists, "the ephemeral node")
	other.Close()
	require(next(gone).Type == zk.EventNodeDeleted, "its end")
}

func users(a, b *zk.Conn) {
	must(a.AddAuth("digest", []byte("joe:secret")))
	_, err := a.Create("/go/private", []byte("s"), 0, zk.DigestACL(zk.PermAll, "joe", "secret"))
	must(err)
	_, err = b.Sync("/go")
	must(err)
	_, _, err = b.Get("/go/private")
	require(errors.Is(err, zk.ErrNoAuth), err)
	must(b.AddAuth("digest", []byte("joe:secret")))
	_, _, err = b.Get("/go/private")
	must(err)
}

func main() {
	hosts = strings.Split(os.Args[1], ",")
	a, b := connect(), connect()
	for _, check := range []struct {
		name string
		run  func(a, b *zk.Conn)
	}{
		{"nodes", nodes}, {"watches", watches}, {"multis", multis},
		{"locks", locks}, {"sessions", sessions}, {"users", users},
	} {
		check.run(a, b)
		fmt.Println("ok", check.name)
	}
	a.Close()
	b.Close()
}
