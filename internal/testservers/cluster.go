package testservers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A Cluster is RabbitMQ nodes that share one Erlang cookie and one port mapper. Each is stopped, killed and started by
// itself. Its methods are for one goroutine at a time.
type Cluster struct {
	URL   string // of all nodes, separated by ";", as Celery takes a failover list
	Nodes []*Server

	dir    string // of the port mapper
	mapper *process
}

// StartRabbitCluster starts n nodes on free loopback ports: the first one alone, and then the others, which join it,
// side by side. User and password are guest.
func StartRabbitCluster(ctx context.Context, n int) (*Cluster, error) {
	epmd, err := lookup(os.Getenv(envRabbitRoot), "epmd")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Nodes: make([]*Server, n)}
	fail := func(err error) (*Cluster, error) { return nil, errors.Join(err, c.Close()) }
	if c.dir, err = os.MkdirTemp("", "stalk-cluster-"); err != nil {
		return nil, fmt.Errorf("testservers: %w", err)
	}
	if c.mapper, err = runMapper(ctx, c.dir, epmd, nil, ports[0]); err != nil {
		return fail(err)
	}
	o := RabbitMQOptions{mapper: ports[0], cookie: rand.Text()}
	if c.Nodes[0], err = StartRabbitMQWith(ctx, o); err != nil {
		return fail(err)
	}
	_, port, err := net.SplitHostPort(c.Nodes[0].Addr)
	if err != nil {
		return fail(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fail(err)
	}
	o.join = nodeName(number)
	type started struct {
		i   int
		s   *Server
		err error
	}
	ends := make(chan started)
	for i := 1; i < n; i++ {
		go func() {
			s, err := StartRabbitMQWith(ctx, o)
			ends <- started{i, s, err}
		}()
	}
	for range n - 1 {
		end := <-ends
		c.Nodes[end.i], err = end.s, errors.Join(err, end.err)
	}
	if err != nil {
		return fail(err)
	}
	var urls []string
	for _, s := range c.Nodes {
		urls = append(urls, s.URL)
	}
	c.URL = strings.Join(urls, ";")
	return c, nil
}

// Close ends all nodes and removes their files.
func (c *Cluster) Close() error {
	var errs []error
	for _, s := range c.Nodes {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	if c.mapper != nil {
		errs = append(errs, c.mapper.end(0))
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// Whole waits until every quorum queue that node i leads would have a majority without it: whoever takes a node away
// earlier takes the queue away.
func (c *Cluster) Whole(ctx context.Context, i int) error {
	out, err := c.Nodes[i].Ctl(ctx, "eval", "rabbit_upgrade_preparation:await_online_quorum_plus_one(60000).")
	if err == nil && strings.TrimSpace(out) != "true" {
		err = fmt.Errorf("testservers: node %d: the other members of its queues are not back: %s", i, out)
	}
	return err
}

// RabbitCluster starts n nodes for one test. They take about 100 MB each, and half a minute on a small machine.
func RabbitCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c, err := StartRabbitCluster(t.Context(), n)
	if errors.Is(err, ErrMissing) && os.Getenv("INTEROP") != "required" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("testservers: %v", err)
		}
	})
	return c
}
