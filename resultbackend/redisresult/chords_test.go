package redisresult_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/testservers/faultproxy"
	"github.com/stalkworker/stalk/resultbackend/redisresult"
	"github.com/stalkworker/stalk/resultbackend/resultbackendtest"
)

func TestChordSuite(t *testing.T) {
	servers(t, func(t *testing.T, url string) { chordSuite(t, url, redisresult.Config{}) })
}

func chordSuite(t *testing.T, url string, cfg redisresult.Config) {
	resultbackendtest.RunChords(t, func(t *testing.T) resultbackendtest.Backend {
		p := faultproxy.New(t, hostOf(t, url))
		cfg.JoinTimeout = chordJoin
		b, _, key := open(t, p.Through(t, url), cfg)
		opts, err := redis.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		client := redis.NewClient(opts)
		t.Cleanup(func() { client.Close() })
		return resultbackendtest.Backend{
			Backend: b,
			Away:    p.Refuse,
			Lapse:   func(group string) { client.Del(t.Context(), chordKey(key, group)+".c", chordKey(key, group)+".go") },
		}
	})
}

// chordJoin is long enough for the suite's own tasks.
const chordJoin = time.Second

// chordKey is the record's key of a group, given the prefix of task keys that open returns.
func chordKey(key, group string) string {
	return strings.TrimSuffix(key, "celery-task-meta-") + "celery-taskset-meta-" + group
}
