package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// mutualTLS watches and writes while the server's certificate is replaced.
func mutualTLS(ctx context.Context) error {
	config, err := certificates()
	if err != nil {
		return err
	}
	var serial atomic.Value
	config.VerifyConnection = func(state tls.ConnectionState) error {
		serial.Store(state.PeerCertificates[0].SerialNumber.String())
		return nil
	}
	c, err := connect(func(all *clientv3.Config) { all.TLS = config })
	if err != nil {
		return err
	}
	defer c.Close()
	put, err := c.Put(ctx, "tls/a", "before")
	if err != nil {
		return err
	}
	before := serial.Load()
	events := c.Watch(ctx, "tls/", clientv3.WithPrefix(), clientv3.WithRev(put.Header.Revision))
	if err := ask("renew certificate"); err != nil {
		return err
	}
	// New connections soon see the new certificate.
	for serial.Load() == before {
		other, err := connect(func(all *clientv3.Config) { all.TLS = config })
		if err != nil {
			return err
		}
		_, err = other.Put(ctx, "tls/b", "during")
		if err := errors.Join(err, other.Close()); err != nil {
			return fmt.Errorf("a new connection: %w", err)
		}
	}
	if _, err := c.Put(ctx, "tls/a", "after"); err != nil {
		return err
	}
	for last := ""; last != "after"; {
		answer, open := <-events
		if !open || answer.Err() != nil {
			return fmt.Errorf("the watch ended: %v", answer.Err())
		}
		for _, event := range answer.Events {
			last = string(event.Kv.Value)
		}
	}
	bare := &tls.Config{RootCAs: config.RootCAs}
	stranger, err := connect(func(all *clientv3.Config) { all.TLS = bare })
	if err != nil {
		return err
	}
	defer stranger.Close()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := stranger.Get(short, "tls/a"); err == nil {
		return errors.New("a client without a certificate was served")
	}
	return nil
}

func as(user, password string) func(*clientv3.Config) {
	return func(config *clientv3.Config) { config.Username, config.Password = user, password }
}

// authentication uses users and roles, and a token that the member forgets in a restart.
func authentication(ctx context.Context) error {
	open, err := connect()
	if err != nil {
		return err
	}
	defer open.Close()
	_, noRoot := open.AuthEnable(ctx)
	if err := refused("no root", noRoot, rpctypes.ErrRootUserNotExist); err != nil {
		return err
	}
	if err := addUsers(ctx, open); err != nil {
		return err
	}
	if _, err := open.AuthEnable(ctx); err != nil {
		return err
	}
	_, anonymous := open.Get(ctx, "auth/a")
	_, wrong := connect(as("alice", "wrong"))
	if err := errors.Join(
		refused("without a user", anonymous, rpctypes.ErrUserEmpty),
		refused("a wrong password", wrong, rpctypes.ErrAuthFailed),
	); err != nil {
		return err
	}
	alice, err := connect(as("alice", "a"))
	if err != nil {
		return err
	}
	defer alice.Close()
	root, err := connect(as("root", "r"))
	if err != nil {
		return err
	}
	defer root.Close()
	return errors.Join(
		permissions(ctx, alice, root),
		tokens(ctx, alice),
		changes(ctx, root),
	)
}

func addUsers(ctx context.Context, c *clientv3.Client) error {
	_, one := c.RoleAdd(ctx, "root")
	_, two := c.UserAdd(ctx, "root", "r")
	_, three := c.UserGrantRole(ctx, "root", "root")
	_, four := c.RoleAdd(ctx, "own")
	_, five := c.RoleGrantPermission(ctx, "own", "auth/", clientv3.GetPrefixRangeEnd("auth/"), clientv3.PermissionType(clientv3.PermReadWrite))
	_, six := c.RoleGrantPermission(ctx, "own", "public", "", clientv3.PermissionType(clientv3.PermRead))
	_, seven := c.UserAdd(ctx, "alice", "a")
	_, eight := c.UserGrantRole(ctx, "alice", "own")
	_, twice := c.UserAdd(ctx, "alice", "a")
	_, unknown := c.UserGrantRole(ctx, "alice", "none")
	return errors.Join(one, two, three, four, five, six, seven, eight,
		refused("a user twice", twice, rpctypes.ErrUserAlreadyExist),
		refused("an unknown role", unknown, rpctypes.ErrRoleNotFound))
}

func permissions(ctx context.Context, alice, root *clientv3.Client) error {
	_, allowed := alice.Put(ctx, "auth/a", "1")
	_, readOnly := alice.Put(ctx, "public", "1")
	_, read := alice.Get(ctx, "public")
	_, other := alice.Get(ctx, "secret")
	_, wide := alice.Get(ctx, "auth/", clientv3.WithFromKey())
	_, users := alice.UserList(ctx)
	_, everything := root.Put(ctx, "secret", "1")
	watched := <-alice.Watch(ctx, "secret")
	role, err := root.RoleGet(ctx, "own")
	if err != nil {
		return err
	}
	user, err := alice.UserGet(ctx, "alice")
	if err != nil {
		return err
	}
	denied := rpctypes.ErrPermissionDenied
	return errors.Join(allowed, read, everything,
		refused("a write with read permission", readOnly, denied),
		refused("another key", other, denied),
		refused("a wider range", wide, denied),
		refused("administration", users, denied),
		refused("a watch", watched.Err(), denied),
		expect("permissions", len(role.Perm), 2),
		expect("roles", user.Roles, "[own]"),
	)
}

// tokens checks that the client gets a new token by itself after the member has forgotten the old
// one.
func tokens(ctx context.Context, alice *clientv3.Client) error {
	if err := ask("restart 0"); err != nil {
		return err
	}
	_, err := alice.Put(ctx, "auth/a", "after the restart")
	if err != nil {
		return fmt.Errorf("a write with the token of before the restart: %w", err)
	}
	events := alice.Watch(ctx, "auth/a", clientv3.WithCreatedNotify())
	if created := <-events; created.Err() != nil || !created.Created {
		return fmt.Errorf("a watch with a new token: %v", created)
	}
	granted, err := alice.Grant(ctx, 30)
	if err != nil {
		return err
	}
	_, err = alice.KeepAliveOnce(ctx, granted.ID)
	return err
}

// changes checks that existing tokens lose a revoked permission.
func changes(ctx context.Context, root *clientv3.Client) error {
	alice, err := connect(as("alice", "a"))
	if err != nil {
		return err
	}
	defer alice.Close()
	if _, err := root.RoleRevokePermission(ctx, "own", "public", ""); err != nil {
		return err
	}
	_, revoked := alice.Get(ctx, "public")
	if _, err := root.UserChangePassword(ctx, "alice", "b"); err != nil {
		return err
	}
	_, old := connect(as("alice", "a"))
	fresh, err := connect(as("alice", "b"))
	if err != nil {
		return err
	}
	defer fresh.Close()
	_, last := fresh.Get(ctx, "auth/a")
	status, err := root.AuthStatus(ctx)
	if err != nil {
		return err
	}
	if _, err := root.UserDelete(ctx, "alice"); err != nil {
		return err
	}
	if _, err := root.AuthDisable(ctx); err != nil {
		return err
	}
	open, err := connect()
	if err != nil {
		return err
	}
	defer open.Close()
	_, anyone := open.Get(ctx, "secret")
	return errors.Join(last, anyone,
		refused("a revoked permission", revoked, rpctypes.ErrPermissionDenied),
		refused("an old password", old, rpctypes.ErrAuthFailed),
		expect("enabled", status.Enabled, true),
	)
}
