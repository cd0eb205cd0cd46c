// Checks of a server with the released Go client. The arguments name the scenarios; the
// environment tells where the server is. A failed check ends the program with status 1.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// within bounds each scenario.
const within = 100 * time.Second

var scenarios = map[string]func(context.Context) error{
	"kv":          kv,
	"txn":         txn,
	"lease":       leases,
	"watch":       watches,
	"concurrency": concurrencyPackage,
	"kill":        leasesSurviveAKilledMember,
	"tls":         mutualTLS,
	"auth":        authentication,
}

func main() {
	for _, name := range os.Args[1:] {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		err := scenarios[name](ctx)
		cancel()
		if err != nil {
			fmt.Printf("failed: %s: %v\n", name, err)
			os.Exit(1)
		}
		fmt.Println("passed:", name)
	}
}

func endpoints() []string { return strings.Split(os.Getenv("ENDPOINTS"), ",") }

func connect(change ...func(*clientv3.Config)) (*clientv3.Client, error) {
	config := clientv3.Config{Endpoints: endpoints(), DialTimeout: 10 * time.Second}
	for _, one := range change {
		one(&config)
	}
	return clientv3.New(config)
}

var answers = bufio.NewReader(os.Stdin)

// ask lets the test do something to the cluster, and returns when it is done.
func ask(what string) error {
	fmt.Println("ask:", what)
	line, err := answers.ReadString('\n')
	if err != nil || line != "done\n" {
		return fmt.Errorf("the test answered %q to %q: %w", line, what, err)
	}
	return nil
}

// expect is an error unless the two values print the same.
func expect(what string, got, want any) error {
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		return fmt.Errorf("%s: got %s, want %s", what, g, w)
	}
	return nil
}

// refused is an error unless err is this refusal.
func refused(what string, err, want error) error {
	// A watch's reason for its end is the text of a gRPC status.
	if errors.Is(rpctypes.Error(err), want) || err != nil && strings.HasSuffix(err.Error(), want.Error()) {
		return nil
	}
	return fmt.Errorf("%s: got error %v, want %v", what, err, want)
}

// pairs prints keys and values in their order.
func pairs(answer *clientv3.GetResponse) string {
	var all []string
	for _, kv := range answer.Kvs {
		all = append(all, string(kv.Key)+"="+string(kv.Value))
	}
	return strings.Join(all, " ")
}

// certificates are the files of the environment.
func certificates() (*tls.Config, error) {
	pem, err := os.ReadFile(os.Getenv("CA"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	own, err := tls.LoadX509KeyPair(os.Getenv("CERT"), os.Getenv("KEY"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}, nil
}
