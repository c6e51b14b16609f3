package memresult

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// The lifetimes that Celery's Redis backend has by default.
const (
	claimLife    = 6 * time.Second
	publishClaim = 30 * time.Second
	doneMark     = 300 * time.Second
	busyWait     = 500 * time.Millisecond
	joinTimeout  = 3 * time.Second
	nestedJoin   = time.Minute
)

// A chord is what Redis keeps under a group's keys. It is guarded by the Backend's mu.
type chord struct {
	parts  []part
	record []byte // nil: a simple header
	size   int
	sized  bool
	grown  int
	done   time.Time // until then it is known to be finished
	token  uint64    // of the claim
	until  time.Time // when the claim lapses
}

// A part is one counted task.
type part struct {
	taskID string
	score  float64
	data   []byte
}

var _ resultbackend.Chords = (*Backend)(nil)

// Begin forgets that the chord was completed.
func (b *Backend) Begin(ctx context.Context, groupID string) error {
	return b.withChord(ctx, groupID, func(c *chord) error {
		c.done, c.until = time.Time{}, time.Time{}
		return nil
	})
}

// SaveGroup keeps the shape of the header.
func (b *Backend) SaveGroup(ctx context.Context, groupID string, tuple protocol.Value) error {
	data, err := protocol.EncodeGroup(protocol.Encoding{}, tuple)
	if err != nil {
		return err
	}
	return b.withChord(ctx, groupID, func(c *chord) error {
		c.record = data
		return nil
	})
}

// Expect tells the size of the header.
func (b *Backend) Expect(ctx context.Context, groupID string, n int) error {
	return b.withChord(ctx, groupID, func(c *chord) error {
		c.size, c.sized = n, true
		return nil
	})
}

// Add makes the header larger.
func (b *Backend) Add(ctx context.Context, groupID string, n int) error {
	return b.withChord(ctx, groupID, func(c *chord) error {
		c.grown += n
		return nil
	})
}

// Count reports one part.
func (b *Backend) Count(ctx context.Context, m resultbackend.Member) (resultbackend.Tally, error) {
	if m.GroupID == "" || m.TaskID == "" {
		return resultbackend.Tally{State: resultbackend.Open}, nil
	}
	data, err := m.Result().EncodePart(protocol.Encoding{})
	if err != nil {
		return resultbackend.Tally{}, err
	}
	score, err := chordScore(m.Index)
	if err != nil {
		return resultbackend.Tally{}, err
	}
	var t resultbackend.Tally
	err = b.withChord(ctx, m.GroupID, func(c *chord) error {
		now := time.Now()
		if now.Before(c.done) {
			t.State = resultbackend.Finished
			return nil
		}
		c.add(part{m.TaskID, score, data})
		switch {
		case !c.sized || len(c.parts) != c.size+c.grown:
		case now.Before(c.until):
			t.State, t.Wait = resultbackend.Busy, min(busyWait, c.until.Sub(now))
		default:
			b.tokens++
			c.token, c.until = b.tokens, now.Add(claimLife)
			t.State, t.Claim = resultbackend.Claimed, &claim{b: b, group: m.GroupID, token: b.tokens}
		}
		return nil
	})
	return t, err
}

// add keeps the part in its place: by score, then by its bytes.
func (c *chord) add(p part) {
	if slices.ContainsFunc(c.parts, func(o part) bool { return o.taskID == p.taskID && o.score == p.score }) {
		return
	}
	at, _ := slices.BinarySearchFunc(c.parts, p, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.score, b.score), slices.Compare(a.data, b.data))
	})
	c.parts = slices.Insert(c.parts, at, p)
}

func chordScore(index protocol.Value) (float64, error) {
	switch index := index.(type) {
	case nil:
		return math.Inf(1), nil
	case int64:
		return float64(index), nil
	case *big.Int:
		f, _ := new(big.Float).SetInt(index).Float64()
		return f, nil
	case float64:
		if !math.IsNaN(index) {
			return index, nil
		}
	}
	return 0, &protocol.EncodeError{Part: "group_index", Err: fmt.Errorf("is %v, want a number", index)}
}

// withChord runs f on the chord, as one step.
func (b *Backend) withChord(ctx context.Context, groupID string, f func(*chord) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable(); err != nil {
		return err
	}
	if b.chords == nil {
		b.chords = make(map[string]*chord)
	}
	c := b.chords[groupID]
	if c == nil {
		c = &chord{}
		b.chords[groupID] = c
	}
	return f(c)
}

// Lapse ends the claim on the chord, as time does when its holder has died.
func (b *Backend) Lapse(groupID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.chords[groupID]; c != nil {
		c.token, c.until = 0, time.Time{}
	}
}

// A claim is the right to end one chord.
type claim struct {
	b     *Backend
	group string
	token uint64
}

// owned reports whether the claim is ours and has not lapsed.
func (c *claim) owned(ch *chord) bool {
	return ch.token == c.token && time.Now().Before(ch.until)
}

// Renew keeps the claim while the body is published.
func (c *claim) Renew(ctx context.Context) error {
	return c.b.withChord(ctx, c.group, func(ch *chord) error {
		now := time.Now()
		free := !now.Before(ch.until) && !now.Before(ch.done) && ch.sized
		if !c.owned(ch) && !free {
			return c.lost()
		}
		ch.token, ch.until = c.token, now.Add(publishClaim)
		return nil
	})
}

// Finish forgets the chord.
func (c *claim) Finish(ctx context.Context) error {
	return c.b.withChord(ctx, c.group, func(ch *chord) error {
		switch {
		case time.Now().Before(ch.done):
		case c.owned(ch):
			*ch = chord{record: ch.record, done: time.Now().Add(doneMark)}
		default:
			return c.lost()
		}
		return nil
	})
}

// Fail ends the chord without a body.
func (c *claim) Fail(ctx context.Context) error {
	return c.b.withChord(ctx, c.group, func(ch *chord) error {
		switch {
		case c.owned(ch):
			ch.sized, ch.token, ch.until = false, 0, time.Time{}
		case ch.sized || time.Now().Before(ch.until) || time.Now().Before(ch.done):
			return c.lost()
		}
		return nil
	})
}

func (c *claim) lost() error {
	return fmt.Errorf("memresult: %s: %w", c.group, resultbackend.ErrClaimLost)
}

// Results reads the parts, or, for a header with groups in it, the records of its tasks.
func (c *claim) Results(ctx context.Context) (resultbackend.Header, error) {
	var record []byte
	var parts []part
	err := c.b.withChord(ctx, c.group, func(ch *chord) error {
		record, parts = ch.record, slices.Clone(ch.parts)
		return nil
	})
	if err != nil {
		return resultbackend.Header{}, err
	}
	if len(parts) == 0 {
		return resultbackend.Header{}, c.lost()
	}
	if record == nil {
		return resultbackend.ReadParts(parts, readPart)
	}
	tuple, err := protocol.DecodeGroup("json", record, protocol.Limits{})
	if err != nil {
		return resultbackend.Header{}, resultbackend.Unreadable(err)
	}
	values, err := c.join(ctx, tuple, resultbackend.PartsByTask(parts, readPart))
	return resultbackend.Header{Values: values}, err
}

func readPart(p part) (protocol.Result, error) {
	return protocol.DecodePart("json", p.data, protocol.Limits{})
}

func (c *claim) join(ctx context.Context, tuple protocol.Value, reported map[string]protocol.Result) ([]protocol.Value, error) {
	var changed <-chan struct{}
	return resultbackend.Join{
		Load: func(ctx context.Context, ids []string) ([]protocol.Result, error) {
			results := make([]protocol.Result, len(ids))
			err := c.b.withChord(ctx, c.group, func(*chord) error {
				changed = c.b.changed
				for i, id := range ids {
					if doc, there := c.b.docs[id]; there {
						var err error
						if results[i], err = decode(doc); err != nil {
							return err
						}
					}
				}
				return nil
			})
			return results, err
		},
		Changed: func(ctx context.Context) error {
			timer := time.NewTimer(claimLife / 3)
			defer timer.Stop()
			select {
			case <-changed:
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			return c.Renew(ctx)
		},
		Reported: reported,
		Timeout:  joinTimeout,
		Nested:   nestedJoin,
	}.Run(ctx, tuple)
}
