package redisopt

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ErrCluster says what is wrong with a node of a Redis Cluster: what belongs together, as a queue and what was taken
// from it, is kept by different nodes, and Kombu has no transport for it either.
var ErrCluster = errors.New("this is a node of a Redis Cluster, which Celery cannot use and Stalk cannot either: " +
	"name a Redis or Valkey server without cluster-enabled, or behind Sentinel")

// OfCluster reports whether INFO server was answered, or a command refused, as only a node of a Redis Cluster does.
// A server that does not let us look gives itself away when it refuses.
func OfCluster(info string, err error) bool {
	for _, prefix := range []string{"MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN", "SELECT is not allowed in cluster mode"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return InfoField(info, "redis_mode") == "cluster" || InfoField(info, "server_mode") == "cluster" // the latter is Valkey's
}

// InfoField is one line of what INFO answers, "" when it is not there.
func InfoField(info, name string) string {
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && key == name {
			return value
		}
	}
	return ""
}
