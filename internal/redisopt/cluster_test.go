package redisopt

import (
	"errors"
	"testing"
)

// A reply is an error that the server told.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

func TestOfCluster(t *testing.T) {
	for _, tt := range []struct {
		info string
		err  error
		want bool
	}{
		{"# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\n", nil, true},
		{"# Server\r\nserver_name:valkey\r\nserver_mode:cluster\r\n", nil, true},
		{"# Server\r\nredis_mode:standalone\r\n", nil, false},
		{"", nil, false},
		{"", reply("CLUSTERDOWN Hash slot not served"), true},
		{"", reply("MOVED 1234 127.0.0.1:7002"), true},
		{"", reply("CROSSSLOT Keys in request don't hash to the same slot"), true},
		{"", reply("ERR SELECT is not allowed in cluster mode"), true},
		{"", reply("READONLY You can't write against a read only replica."), false},
		{"", errors.New("MOVED is no reply here"), false},
	} {
		if got := OfCluster(tt.info, tt.err); got != tt.want {
			t.Errorf("OfCluster(%q, %v) = %v", tt.info, tt.err, got)
		}
	}
}
