package redisresult

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
)

// rounds bounds how often one Store reads a record that others keep changing under it.
const rounds = 20

// store decides and writes in one step, for each of many records.
//
//	KEYS  the records
//	ARGV  of each record in turn:
//	      1 the new document   2 seconds to live, 0 for ever
//	      3 "" for any, or the states that may be replaced, each between line feeds; PENDING is no record
//	      4 "=" and a record that the client has read and lets us replace, or "" (at the first call)
//
// What is no string is no record: like one that cannot be read it is replaced, but not by what asks for certain states.
//
// It answers of each record 1 when it stored, 0 when the old record must stay, the old record when the client has
// to read it, or in an array the text of an error, which is that record's alone. Status comes first in every document that
// Celery or we write as plain JSON, so usually the first bytes say enough. Lua's own JSON reader is of no use here: it
// refuses NaN, which Python writes.
var store = redis.NewScript(`
local function set(key, doc, ttl, new)
  if ttl == '0' then
    if new then return redis.pcall('SET', key, doc, 'NX') end
    return redis.pcall('SET', key, doc)
  end
  if new then return redis.pcall('SET', key, doc, 'EX', ttl, 'NX') end
  return redis.pcall('SETEX', key, ttl, doc)
end
local function one(key, doc, ttl, over, read)
  local any = over == ''
  local r
  if any then
    r = set(key, doc, ttl, true)
    if r and r.err then return {r.err} end
  end
  if not r then
    local old = redis.pcall('GET', key)
    local ok
    if type(old) == 'table' then
      ok = any
    elseif not old then
      ok = any or string.find(over, '\nPENDING\n', 1, true)
    elseif read ~= '' and '=' .. old == read then
      ok = true
    else
      local state = string.match(old, '^{"status": "([^"\\\n]+)", "result": ')
      if not state then return old end
      ok = state ~= 'SUCCESS' and (any or string.find(over, '\n' .. state .. '\n', 1, true))
    end
    if not ok then return 0 end
    r = set(key, doc, ttl)
    if r.err then return {r.err} end
  end
  r = redis.pcall('PUBLISH', key, doc)
  if type(r) == 'table' then return {r.err} end
  return 1
end
local out = {}
for i, key in ipairs(KEYS) do
  out[i] = one(key, ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i])
end
return out
`)

// Store writes the record and tells whoever waits for it.
func (b *Backend) Store(ctx context.Context, r resultbackend.Record) error {
	if err := ctx.Err(); err != nil {
		return b.failed(ctx, err)
	}
	if r.Result.TaskID == "" {
		return &protocol.EncodeError{Part: "task_id", Err: errors.New("is empty")}
	}
	doc, err := r.Result.Encode(b.encoding)
	if err != nil {
		return err
	}
	if len(doc) > b.maxValue {
		return fmt.Errorf("redisresult: result of %d bytes, at most %d are stored: %w", len(doc), b.maxValue, resultbackend.ErrTooLarge)
	}
	w := write{Record: r, key: b.prefix + r.Result.TaskID, doc: doc, ttl: b.expires}
	if r.Result.Status == protocol.Failure {
		w.ttl = b.failures
	}
	if b.unscripted.Load() {
		return b.watched(ctx, w)
	}
	err = b.scripted(ctx, w)
	if !forbidden(err) {
		return err
	}
	// Not allowed to run scripts, or not allowed this key: the other way tells.
	if err := b.watched(ctx, w); err != nil {
		return err
	}
	b.unscripted.Store(true)
	return nil
}

// A write is one Store on its way.
type write struct {
	resultbackend.Record
	key string
	doc []byte
	ttl int64 // seconds; 0: for ever
}

// scripted stores by the script, usually in one round trip.
func (b *Backend) scripted(ctx context.Context, w write) error {
	c := &call{key: w.key, doc: w.doc, ttl: w.ttl}
	if w.Over != nil {
		var s strings.Builder
		s.WriteByte('\n')
		for _, state := range w.Over {
			s.WriteString(string(state))
			s.WriteByte('\n')
		}
		c.over = s.String()
	}
	for range rounds {
		if err := b.batch.Do(ctx, c); err != nil {
			return b.refused(ctx, err)
		}
		if c.err != nil {
			return b.refused(ctx, c.err)
		}
		old, unread := c.answer.(string)
		if !unread {
			return nil // stored, or rightly not
		}
		if !b.allows(w.Record, []byte(old)) {
			return nil
		}
		c.read = "=" + old
	}
	return fmt.Errorf("redisresult: the record of task %q changes too often: %w", w.Result.TaskID, resultbackend.ErrUnavailable)
}

// allows reads the old record and decides. What cannot be read is overwritten, but not by a record that
// asks for certain states.
func (b *Backend) allows(r resultbackend.Record, old []byte) bool {
	was, err := b.decode(old)
	if err != nil {
		return r.Over == nil
	}
	return r.Allows(was.Status)
}

// watched stores without scripts: WATCH, GET, then MULTI.
func (b *Backend) watched(ctx context.Context, w write) error {
	for range rounds {
		err := b.client.Watch(ctx, func(tx *redis.Tx) error {
			old, err := tx.Get(ctx, w.key).Bytes()
			switch {
			case errors.Is(err, redis.Nil):
				if !w.Allows(protocol.Pending) {
					return nil
				}
			case damaged(err):
				if w.Over != nil {
					return nil
				}
			case err != nil:
				return err
			case !b.allows(w.Record, old):
				return nil
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				if w.ttl > 0 {
					p.Do(ctx, "SETEX", w.key, w.ttl, w.doc)
				} else {
					p.Set(ctx, w.key, w.doc, 0)
				}
				p.Publish(ctx, w.key, w.doc)
				return nil
			})
			return err
		}, w.key)
		if err == nil {
			return nil
		}
		if !errors.Is(err, redis.TxFailedErr) {
			return b.failed(ctx, err)
		}
	}
	return fmt.Errorf("redisresult: the record of task %q changes too often: %w", w.Result.TaskID, resultbackend.ErrUnavailable)
}

// errForbidden is inside errors that may mean that scripts are not allowed.
var errForbidden = errors.New("scripts are not allowed")

func forbidden(err error) bool { return errors.Is(err, errForbidden) }

// refused is failed, marked when the server may only dislike the script.
func (b *Backend) refused(ctx context.Context, err error) error {
	if redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown command") {
		return fmt.Errorf("%w: %w", b.failed(ctx, err), errForbidden)
	}
	return b.failed(ctx, err)
}
