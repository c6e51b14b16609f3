package redisopt

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Sentinels that were set up anew have forgotten how many failovers there were: after a while they are believed again, and
// a single one that merely lags behind the others is not.
func TestSentinelsThatCountAnewAreBelievedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &group{conns: map[*tracked]string{}}
		if !g.believe(0, "a:1", 7) {
			t.Fatal("the first answer is not believed")
		}
		for range 300 {
			time.Sleep(time.Second)
			if g.believe(1, "old:1", 6) {
				t.Fatal("a sentinel that lags behind is believed")
			}
			if !g.believe(2, "a:1", 7) {
				t.Fatal("the one that does not is not")
			}
		}
		began := time.Now()
		for !g.believe(0, "b:1", 0) {
			if time.Since(began) > 5*time.Minute {
				t.Fatal("sentinels that count anew are never believed")
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < 30*time.Second {
			t.Errorf("believed after %v: a failover takes as long", took)
		}
	})
}

// Whoever owns a socket to the old master closes it after the group has, and that is no error.
func TestASocketThatTheGroupHasClosedIsClosedWithoutError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g := &group{conns: map[*tracked]string{}}
	g.believe(0, "a:1", 1)
	c, err := g.keep(dialled, "a:1")
	if err != nil {
		t.Fatal(err)
	}
	g.believe(0, "b:1", 2)
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("the socket to the old master is open")
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}
