package redisopt

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// A group is one master as this process knows it, under all the Options that go by the same sentinels. While the
// sentinels move the master, the old one takes writes for some seconds more, all of which are lost: a result stored
// there by one socket, and its message acknowledged at the new master by another, would leave the caller without an
// answer. So the whole process moves at once: whoever learns of the new master closes every socket to the old one.
type group struct {
	mu     sync.Mutex
	master string              // where the master was named last
	epoch  int64               // of that answer: the sentinels count failovers
	heard  time.Time           // when a sentinel last told of that failover, or of a later one
	first  int                 // index of the sentinel that was believed last
	conns  map[*tracked]string // open sockets, by where they lead
}

// groups has one entry for each master that is configured, and is shared because broker and result store do not know
// of each other.
var groups struct {
	sync.Mutex
	byName map[string]*group
}

func groupOf(s *Sentinel) *group {
	name := s.Master + " " + strings.Join(s.Addrs, " ")
	groups.Lock()
	defer groups.Unlock()
	g := groups.byName[name]
	if g == nil {
		if groups.byName == nil {
			groups.byName = map[string]*group{}
		}
		g = &group{conns: map[*tracked]string{}}
		groups.byName[name] = g
	}
	return g
}

// staleFor is how long an answer of before the latest failover is not believed. The sentinels tell each other within
// seconds. When all of them were set up anew they count from the beginning: nobody will ever tell of that failover again.
const staleFor = time.Minute

// believe takes an answer of the i-th sentinel, unless it is older than one before: after a failover the sentinels
// learn of it one by one.
func (g *group) believe(i int, addr string, epoch int64) bool {
	now := time.Now()
	g.mu.Lock()
	if epoch < g.epoch && now.Sub(g.heard) < staleFor {
		g.mu.Unlock()
		return false
	}
	var old []*tracked
	for c, to := range g.conns {
		if to != addr {
			old = append(old, c)
		}
	}
	g.master, g.epoch, g.first, g.heard = addr, epoch, i, now
	g.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
	return true
}

// keep notes an open socket, or closes it when the master is elsewhere by now.
func (g *group) keep(c net.Conn, addr string) (net.Conn, error) {
	t := &tracked{Conn: c, group: g}
	g.mu.Lock()
	moved := g.master != addr
	if !moved {
		g.conns[t] = addr
	}
	g.mu.Unlock()
	if moved {
		c.Close()
		return nil, fmt.Errorf("redisopt: %s is not the master any more", addr)
	}
	return t, nil
}

// A tracked socket leaves its group when it is closed. The group may close it before its owner does, to whom that is no
// error: a worker must not end with one because the master has moved.
type tracked struct {
	net.Conn
	group *group
}

func (t *tracked) Close() error {
	t.group.mu.Lock()
	_, open := t.group.conns[t]
	delete(t.group.conns, t)
	t.group.mu.Unlock()
	if !open {
		return nil
	}
	return t.Conn.Close()
}
