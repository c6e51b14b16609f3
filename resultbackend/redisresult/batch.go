package redisresult

import (
	"cmp"
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/internal/batch"
)

// The bounds of one batch. Past the bytes a batch is sent as it is, so that one huge result does not hold
// up many small ones.
const (
	batchCalls = 128
	batchBytes = 256 << 10
)

var errNoAnswer = errors.New("no answer to the script")

// A call is one record for the script. What is behind the blank line is its answer.
type call struct {
	key  string
	doc  []byte
	ttl  int64  // seconds; 0: for ever
	over string // see store
	read string

	answer any
	err    error
}

func (b *Backend) batcher() *batch.Batcher[*call] {
	return &batch.Batcher[*call]{
		Send: b.sendBatch, Most: batchCalls, Bytes: batchBytes,
		Size: func(c *call) int { return len(c.doc) + len(c.read) },
	}
}

// A replyError is the error that the script met with one record.
type replyError string

var _ redis.Error = replyError("")

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// sendBatch runs the script once for all of cs. The context is nobody's: the connection's own deadlines hold.
func (b *Backend) sendBatch(cs []*call) {
	ctx := context.Background()
	keys, args := make([]string, len(cs)), make([]any, 0, 4*len(cs))
	for i, c := range cs {
		keys[i] = c.key
		args = append(args, c.doc, c.ttl, c.over, c.read)
	}
	answers, err := store.Run(ctx, b.client, keys, args...).Slice()
	if err == nil && len(answers) != len(cs) {
		err = errNoAnswer
	}
	for i, c := range cs {
		if c.err = err; err != nil {
			continue
		}
		if c.answer = answers[i]; c.answer == nil {
			c.err = errNoAnswer
		}
		if list, failed := c.answer.([]any); failed {
			text := ""
			if len(list) == 1 {
				text, _ = list[0].(string)
			}
			c.err = replyError(cmp.Or(text, "an error without a text"))
		}
	}
}
