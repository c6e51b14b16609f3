package redisresult

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// The keys of a chord, [global_keyprefix]celery-taskset-meta-<group id> and a suffix. Python workers, of
// 5.7 and before, use the same ones at the same time.
//
//	.j  sorted set, or list when unordered: the parts that were counted
//	.t  how many tasks the header has grown by      .s  how many it had; without it nothing is complete
//	.d  set of "task id:score": what was counted (5.7)
//	.c  the claim to publish the body: a random token, or "done" (5.7)
//	.go who of us completes the chord: a random token. Python looks at .c alone, and a Python worker that finds a
//	    claim there acknowledges its part for good: ours shows there only for as long as the body is being published.
//	    Shown from the beginning, a chord would be lost whose completer is killed and whose part goes to Python next.
//	    without suffix: the group record of a header with groups in it
const (
	partsKey = ".j"
	grownKey = ".t"
	sizeKey  = ".s"
	knownKey = ".d"
	claimKey = ".c"
	ownKey   = ".go"
)

const (
	defaultJoinTimeout = 3 * time.Second // result_chord_join_timeout
	nestedTimeout      = time.Minute     // for the tasks in groups of a header, for which Celery waits without end
	publishClaim       = 30 * time.Second
	doneMark           = 300 * time.Second // how long a completed chord is known as such
	busyWait           = 500 * time.Millisecond
)

// countPart counts one part, and takes the claim when it was the last.
//
//	KEYS  .j .t .s .d record .c .go
//	ARGV  1 task id   2 part   3 "1" when ordered   4 score   5 6 seconds to live of the chord's keys and
//	      of the record, 0 for ever   7 seconds of the claim   8 token   9... how this task's part begins
//
// It returns -1 when the body was published, 0 while the header is not complete, 1 with the claim, 2 when
// another has it, and then how many milliseconds for.
//
// Celery 5.7 trusts .d alone. Workers before it know no .d: what they counted is found in .j by how it
// begins, and a .d that they left behind with a completed chord is dropped. While every part in .j is in .d
// there is nothing to be found. The type of .j is what its first writer took it for.
var countPart = redis.NewScript(`
if redis.call('GET', KEYS[6]) == 'done' then return {-1, 0} end
local ordered = ARGV[3] == '1'
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then redis.call('DEL', KEYS[4]) else ordered = kind == 'zset' end
local function size() return redis.call(ordered and 'ZCARD' or 'LLEN', KEYS[1]) end
local known = redis.call('SCARD', KEYS[4])
if redis.call('SADD', KEYS[4], ARGV[1] .. ':' .. ARGV[4]) == 1 then
  local seen = false
  if known < size() then
    local old
    if ordered then old = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[4], ARGV[4]) else old = redis.call('LRANGE', KEYS[1], 0, -1) end
    for _, e in ipairs(old) do
      for i = 9, #ARGV do
        if string.sub(e, 1, #ARGV[i]) == ARGV[i] then seen = true break end
      end
      if seen then break end
    end
  end
  if not seen then
    if ordered then redis.call('ZADD', KEYS[1], ARGV[4], ARGV[2]) else redis.call('RPUSH', KEYS[1], ARGV[2]) end
  end
end
if tonumber(ARGV[5]) > 0 then
  for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
  if tonumber(ARGV[6]) > 0 then redis.call('EXPIRE', KEYS[5], ARGV[6]) end
end
local n = redis.call('GET', KEYS[3])
if not n or size() ~= tonumber(n) + tonumber(redis.call('GET', KEYS[2]) or 0) then return {0, 0} end
local held = KEYS[6]
if redis.call('EXISTS', held) == 0 then
  held = KEYS[7]
  if redis.call('SET', held, ARGV[8], 'NX', 'EX', ARGV[7]) then return {1, 0} end
end
local left = redis.call('PTTL', held)
if left < 0 then redis.call('EXPIRE', held, ARGV[7]) end
return {2, left}
`)

// renewClaim extends our claim, or takes it back while nobody has it and the chord is not over. With "1" it is shown
// to Python, too.
//
//	KEYS .go .c .s   ARGV token seconds show
var renewClaim = redis.NewScript(`
local shown = redis.call('GET', KEYS[2])
if shown and shown ~= ARGV[1] then return 0 end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
if not owner and redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if ARGV[3] == '1' then redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2]) end
return 1
`)

// finishChord forgets a chord whose body was published. Saying so twice is no error.
//
//	KEYS .c .go .j .t .s .d   ARGV token seconds
var finishChord = redis.NewScript(`
local owner = redis.call('GET', KEYS[1])
if owner == 'done' then return 1 end
if (owner or redis.call('GET', KEYS[2])) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1
`)

// failChord makes a chord that was failed incomplete for ever, and releases it. The rest expires, as with
// Celery. Saying so twice is no error.
//
//	KEYS .c .go .s   ARGV token
var failChord = redis.NewScript(`
local owner = redis.call('GET', KEYS[1]) or redis.call('GET', KEYS[2])
if owner ~= ARGV[1] then
  if owner or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
  return 1
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 1
`)

var _ resultbackend.Chords = (*Backend)(nil)

// Begin forgets that the chord was completed.
func (b *Backend) Begin(ctx context.Context, groupID string) error {
	return b.chordError(ctx, b.client.Del(ctx, b.groups+groupID+claimKey, b.groups+groupID+ownKey).Err())
}

// SaveGroup keeps the shape of the header. Nobody is told: no client waits for it.
func (b *Backend) SaveGroup(ctx context.Context, groupID string, tuple protocol.Value) error {
	data, err := protocol.EncodeGroup(b.encoding, tuple)
	if err != nil {
		return err
	}
	if len(data) > b.maxValue {
		return fmt.Errorf("redisresult: group record of %d bytes, at most %d are stored: %w", len(data), b.maxValue, resultbackend.ErrTooLarge)
	}
	return b.chordError(ctx, b.client.Set(ctx, b.groups+groupID, data, b.ChordLifetime()).Err())
}

// Expect tells the size of the header.
func (b *Backend) Expect(ctx context.Context, groupID string, n int) error {
	return b.chordError(ctx, b.client.Set(ctx, b.groups+groupID+sizeKey, n, b.ChordLifetime()).Err())
}

// Add makes the header larger.
func (b *Backend) Add(ctx context.Context, groupID string, n int) error {
	key := b.groups + groupID + grownKey
	_, err := b.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.IncrBy(ctx, key, int64(n))
		if life := b.ChordLifetime(); life > 0 {
			p.Expire(ctx, key, life) // Celery leaves it without until the next part
		}
		return nil
	})
	return b.chordError(ctx, err)
}

// Count reports one part, in one round trip.
func (b *Backend) Count(ctx context.Context, m resultbackend.Member) (resultbackend.Tally, error) {
	if m.GroupID == "" || m.TaskID == "" {
		return resultbackend.Tally{State: resultbackend.Open}, nil
	}
	part, err := m.Result().EncodePart(b.encoding)
	if err != nil {
		return resultbackend.Tally{}, err
	}
	if len(part) > b.maxValue {
		return resultbackend.Tally{}, fmt.Errorf("redisresult: chord part of %d bytes, at most %d are stored: %w", len(part), b.maxValue, resultbackend.ErrTooLarge)
	}
	score, err := chordScore(m.Index)
	if err != nil {
		return resultbackend.Tally{}, err
	}
	prefixes, err := protocol.PartPrefixes(b.encoding.Serializer, m.TaskID)
	if err != nil {
		return resultbackend.Tally{}, err
	}
	c := &claim{b: b, group: b.groups + m.GroupID, token: rand.Text()}
	ordered := 0
	if b.ordered {
		ordered = 1
	}
	args := []any{m.TaskID, part, ordered, score, b.chordExpires, b.groupExpires, wholeSeconds(b.claimLife), c.token}
	for _, p := range prefixes {
		args = append(args, p)
	}
	answer, err := countPart.Run(ctx, b.client, c.keys(partsKey, grownKey, sizeKey, knownKey, "", claimKey, ownKey), args...).Int64Slice()
	if err != nil {
		return resultbackend.Tally{}, b.failed(ctx, err)
	}
	if len(answer) != 2 {
		return resultbackend.Tally{}, fmt.Errorf("redisresult: %s: %w: answers %v to a script", b.address, resultbackend.ErrUnavailable, answer)
	}
	switch answer[0] {
	case -1:
		return resultbackend.Tally{State: resultbackend.Finished}, nil
	case 1:
		return resultbackend.Tally{State: resultbackend.Claimed, Claim: c}, nil
	case 2:
		// Usually the other one is done long before its claim would lapse.
		wait := busyWait
		if left := time.Duration(answer[1]+1) * time.Millisecond; left > 0 {
			wait = min(wait, left)
		}
		return resultbackend.Tally{State: resultbackend.Busy, Wait: wait}, nil
	}
	return resultbackend.Tally{State: resultbackend.Open}, nil
}

// chordScore is the group index as redis-py sends it: it is the score, and part of the name in .d.
func chordScore(index protocol.Value) (string, error) {
	switch index := index.(type) {
	case nil:
		return "+inf", nil
	case int64:
		return strconv.FormatInt(index, 10), nil
	case *big.Int:
		return index.String(), nil
	case float64:
		switch {
		case math.IsNaN(index):
		case math.IsInf(index, 0):
			return map[bool]string{true: "inf", false: "-inf"}[index > 0], nil
		default:
			text, err := protocol.AppendJSON(nil, index) // Python's repr
			return string(text), err
		}
	}
	return "", &protocol.EncodeError{Part: "group_index", Err: fmt.Errorf("is %v, want a number", index)}
}

// ChordLifetime is how long the counters of a chord stay after its last part, result_chord_expires; 0: for ever.
func (b *Backend) ChordLifetime() time.Duration { return time.Duration(b.chordExpires) * time.Second }

func (b *Backend) chordError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return b.failed(ctx, err)
}

func wholeSeconds(d time.Duration) int64 { return int64(d / time.Second) }
