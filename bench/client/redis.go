package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stalkworker/stalk/internal/ids"
)

// A mould makes messages in Kombu's envelope like one that Python sent.
type mould struct{ raw, id, tag string }

func (m mould) message() (raw, id string) {
	id = ids.New()
	return strings.ReplaceAll(strings.ReplaceAll(m.raw, m.id, id), m.tag, ids.New()), id
}

// mouldFrom takes the one message from the queue.
func mouldFrom(r *redisConn, queue string) (mould, error) {
	v, err := r.ask("RPOP", queue)
	raw, ok := v.(string)
	if err != nil || !ok {
		return mould{}, fmt.Errorf("no message waits in %q: %v", queue, err)
	}
	var e struct {
		Headers struct {
			ID string `json:"id"`
		} `json:"headers"`
		Properties struct {
			Tag string `json:"delivery_tag"`
		} `json:"properties"`
	}
	if err := json.Unmarshal([]byte(raw), &e); err != nil {
		return mould{}, err
	}
	if e.Headers.ID == "" || e.Properties.Tag == "" {
		return mould{}, errors.New("the message has no id or no delivery_tag")
	}
	return mould{raw, e.Headers.ID, e.Properties.Tag}, nil
}

func fillRedis(o options) error {
	r, err := dialRedis(o.broker)
	if err != nil {
		return err
	}
	m, err := mouldFrom(r, o.mould)
	if err != nil {
		return err
	}
	for left := o.n; left > 0; {
		k := min(left, 200, 1+(4<<20)/len(m.raw))
		push := make([]string, 0, k+2)
		push = append(push, "LPUSH", o.queue)
		for range k {
			raw, _ := m.message()
			push = append(push, raw)
		}
		if _, err := r.ask(push...); err != nil {
			return err
		}
		left -= k
	}
	return nil
}

// meta is the key and the value of a result, as Celery's client reads it.
func meta(id string) (key, value string) {
	return "celery-task-meta-" + id, `{"status": "SUCCESS", "result": 3, "traceback": null, "children": [], "date_done": "2026-01-01T00:00:00.000000+00:00", "task_id": "` + id + `"}`
}

// idOf is the id in a message in Kombu's envelope, found without reading it.
func idOf(raw string) string {
	const before = `"id": "`
	i := strings.Index(raw, before)
	if i < 0 || len(raw) < i+len(before)+36 {
		fail("a message without an id: %.80q", raw)
	}
	return raw[i+len(before):][:36]
}

// takeScript pops up to ARGV[1] messages and records each under the tags ARGV[3...].
const takeScript = `local got = redis.call('RPOP', KEYS[1], ARGV[1])
if not got then return {} end
local h, z = {}, {}
for i, m in ipairs(got) do
  local tag = ARGV[2 + i]
  h[2*i-1], h[2*i] = tag, m
  z[2*i-1], z[2*i] = ARGV[2], tag
end
redis.call('HSET', KEYS[2], unpack(h))
redis.call('ZADD', KEYS[3], unpack(z))
return got`

// drainRedis is the limit on Redis: two connections that each have up to 64 messages taken and recorded by a script, and in
// one pipeline store the results, wake who waits, give up the records and take the next.
func drainRedis(o options) (any, error) {
	const batch = 64
	one := func() error {
		r, err := dialRedis(o.broker)
		if err != nil {
			return err
		}
		sha, err := r.ask("SCRIPT", "LOAD", takeScript)
		if err != nil {
			return err
		}
		store, err := dialRedis(o.results)
		if err != nil {
			return err
		}
		var tags []string
		take := func() {
			tags = tags[:0]
			for range batch {
				tags = append(tags, ids.New())
			}
			now := fmt.Sprintf("%d", time.Now().Unix())
			r.do(append([]string{"EVALSHA", sha.(string), "3", o.queue, "bench-unacked", "bench-unacked-index", fmt.Sprint(batch), now}, tags...)...)
		}
		take()
		for {
			v, err := r.answers(1)
			if err != nil {
				return err
			}
			got, _ := v.([]any)
			if len(got) == 0 {
				return nil
			}
			mine := slices.Clone(tags[:len(got)])
			for _, m := range got {
				raw, _ := m.(string)
				key, value := meta(idOf(raw))
				store.do("MULTI")
				store.do("SETEX", key, "86400", value)
				store.do("PUBLISH", key, value)
				store.do("EXEC")
			}
			if _, err := store.answers(4 * len(got)); err != nil {
				return err
			}
			r.do(append([]string{"HDEL", "bench-unacked"}, mine...)...)
			r.do(append([]string{"ZREM", "bench-unacked-index"}, mine...)...)
			take()
			if _, err := r.answers(2); err != nil {
				return err
			}
		}
	}
	return timed(o.n, func() error { return all(one, one) })
}

// all runs fs side by side and returns the first error.
func all(fs ...func() error) error {
	errs := make(chan error, len(fs))
	for _, f := range fs {
		go func() { errs <- f() }()
	}
	var first error
	for range fs {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// timed measures do, which does n tasks.
func timed(n int, do func() error) (rate, error) {
	began, used := time.Now(), cpuTime()
	err := do()
	return rate{Tasks: n, PerS: float64(n) / time.Since(began).Seconds(), CPU: cpuTime() - used}, err
}

func cpuTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		fail("getrusage: %v", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// flight sends one task, waits until its result is published, and sends the next.
func flight(o options) (any, error) {
	r, err := dialRedis(o.broker)
	if err != nil {
		return nil, err
	}
	m, err := mouldFrom(r, o.mould)
	if err != nil {
		return nil, err
	}
	sub, err := dialRedis(o.results)
	if err != nil {
		return nil, err
	}
	if _, err := sub.ask("PSUBSCRIBE", "celery-task-meta-*"); err != nil {
		return nil, err
	}
	if o.self {
		go func() { fail("playing the worker: %v", echo(o)) }()
	}
	var took []time.Duration
	used, began := cpuTime(), time.Now()
	for time.Since(began) < o.during {
		raw, id := m.message()
		sent := time.Now()
		if _, err := r.ask("LPUSH", o.queue, raw); err != nil {
			return nil, err
		}
		for {
			v, err := sub.read()
			if err != nil {
				return nil, err
			}
			parts, _ := v.([]any)
			if len(parts) != 4 {
				continue
			}
			if text, _ := parts[3].(string); strings.HasSuffix(parts[2].(string), id) && strings.Contains(text, `"SUCCESS"`) {
				break
			}
		}
		took = append(took, time.Since(sent))
	}
	seconds := time.Since(began).Seconds()
	slices.Sort(took)
	return rate{
		Tasks: len(took), PerS: float64(len(took)) / seconds, CPU: cpuTime() - used,
		MedianMS: float64(took[len(took)/2].Microseconds()) / 1e3,
	}, nil
}

// echo is the least a worker does for one task at a time: it pops, records, stores, wakes who waits, and gives the record up.
func echo(o options) error {
	r, err := dialRedis(o.broker)
	if err != nil {
		return err
	}
	store, err := dialRedis(o.results)
	if err != nil {
		return err
	}
	for {
		v, err := r.ask("BRPOP", o.queue, "0")
		if err != nil {
			return err
		}
		pair, _ := v.([]any)
		if len(pair) != 2 {
			return errors.New("BRPOP gave nothing")
		}
		raw, _ := pair[1].(string)
		tag := ids.New()
		r.do("HSET", "bench-unacked", tag, raw)
		r.do("ZADD", "bench-unacked-index", fmt.Sprint(time.Now().Unix()), tag)
		if _, err := r.answers(2); err != nil {
			return err
		}
		key, value := meta(idOf(raw))
		store.do("SETEX", key, "86400", value)
		store.do("PUBLISH", key, value)
		if _, err := store.answers(2); err != nil {
			return err
		}
		r.do("HDEL", "bench-unacked", tag)
		r.do("ZREM", "bench-unacked-index", tag)
		if _, err := r.answers(2); err != nil {
			return err
		}
	}
}
