package redisopt

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// listen serves connections until the test ends; answer gets each command's words and "" stays silent.
func listen(t *testing.T, answer func(words []string) string) (addr string, accepted *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					var n int
					if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
						return
					}
					var words []string
					for range n {
						var size int
						if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
							return
						}
						word := make([]byte, size+2)
						if _, err := io.ReadFull(r, word); err != nil {
							return
						}
						words = append(words, string(word[:size]))
					}
					io.WriteString(c, answer(words))
				}
			}()
		}
	}()
	return l.Addr().String(), accepted
}

// namesMaster answers as a sentinel that knows the master at addr.
func namesMaster(addr string) func([]string) string {
	host, port, _ := net.SplitHostPort(addr)
	fields := []string{"ip", host, "port", port, "flags", "master", "num-other-sentinels", "1"}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(fields))
	for _, f := range fields {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(f), f)
	}
	return func(words []string) string {
		if len(words) == 3 && strings.EqualFold(words[0], "sentinel") {
			return b.String()
		}
		return "-ERR unknown command\r\n" // HELLO
	}
}

// A sentinel that accepts and says nothing must leave time for the others, and is asked last from then on.
func TestASentinelThatHangsIsPassedOver(t *testing.T) {
	t.Parallel()
	silent, asked := listen(t, func([]string) string { return "" })
	master, _ := listen(t, func([]string) string { return "-ERR unknown command\r\n" })
	sentinel, _ := listen(t, namesMaster(master))
	o, err := Broker("sentinel://"+silent+";sentinel://"+sentinel, map[string]any{
		"master_name": "m", "socket_connect_timeout": 4,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c := o.Client(0, Tune{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := c.Ping(ctx).Err(); !redis.HasErrorPrefix(err, "unknown command") {
			t.Errorf("no way to the master: %v", err)
		}
		cancel()
		c.Close()
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the sentinel that hangs was asked %d times, want once", n)
	}
}
