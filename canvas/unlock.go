package canvas

import (
	"fmt"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// An Unlock is a call of celery.chord_unlock, which polls the header of a chord where the result store
// counts nothing. It decides by Check: not ready means that the task retries itself after Interval, without
// limit unless MaxRetries says so, and with ExchangeType as the option exchange_type of the retry; else
// Body(u.Part(), ...) or ChordFailed(u.Part(), PollDependencyText(...), ...) ends it. When it must give up,
// the chord fails with UnlockErrorText.
type Unlock struct {
	GroupID      string
	Body         protocol.Value
	Interval     time.Duration // 0: result_chord_retry_interval
	MaxRetries   *int          // nil: no limit
	ExchangeType string        // "": none

	members []member
}

// A member is one entry of the header: a task, or a group of members.
type member struct {
	id      string
	parent  *member // what came before it
	group   bool
	members []member
}

// ParseUnlock reads a call of celery.chord_unlock(group_id, body, interval, max_retries, result). The error
// is a *SignatureError.
func ParseUnlock(t *protocol.Task) (Unlock, error) {
	u := Unlock{Body: argument(t, 1, "callback"), ExchangeType: text(t.Kwargs, "_chord_unlock_exchange_type")}
	u.GroupID, _ = argument(t, 0, "group_id").(string)
	bad := func(part string, v protocol.Value, want string) (Unlock, error) {
		return u, &SignatureError{Part: t.Name + "." + part, Err: fmt.Errorf("is %s, want %s", describe(v), want)}
	}
	if _, ok := u.Body.(*protocol.Object); !ok {
		return bad("callback", u.Body, "a signature")
	}
	p := &options{o: emptyOptions(), part: t.Name}
	if d, ok := p.seconds("interval", argument(t, 2, "interval")); ok && d > 0 {
		u.Interval = d
	}
	p.o.Set("max_retries", argument(t, 3, "max_retries"))
	u.MaxRetries = p.whole("max_retries")
	if p.err != nil {
		return u, p.err
	}
	v := argument(t, 4, "result")
	tuples, ok := v.([]protocol.Value)
	if !ok {
		return bad("result", v, "a list of result tuples")
	}
	count := 0
	for i, tuple := range tuples {
		m, ok := parseMember(tuple, 0, &count)
		if !ok {
			return bad(fmt.Sprintf("result[%d]", i), tuple, "a result tuple")
		}
		u.members = append(u.members, m)
	}
	return u, nil
}

// parseMember is result_from_tuple.
func parseMember(v protocol.Value, depth int, count *int) (member, bool) {
	if *count++; *count > maxWork || depth > maxDepth {
		return member{}, false
	}
	tuple, ok := v.([]protocol.Value)
	if !ok || len(tuple) != 2 {
		return member{}, false
	}
	var m member
	switch head := tuple[0].(type) {
	case string:
		m.id = head
	case []protocol.Value:
		if len(head) == 0 {
			return m, false
		}
		m.id, _ = head[0].(string)
		if len(head) > 1 && head[1] != nil {
			if p, ok := parseMember(head[1], depth+1, count); ok {
				m.parent = &p
			}
		}
	}
	members, isGroup := tuple[1].([]protocol.Value)
	if m.group = isGroup; !isGroup {
		return m, tuple[1] == nil && m.id != ""
	}
	for _, e := range members {
		inner, ok := parseMember(e, depth+1, count)
		if !ok {
			return m, false
		}
		m.members = append(m.members, inner)
	}
	return m, true
}

// Part is the chord as ChordFailed and Body take it.
func (u Unlock) Part() Part { return Part{GroupID: u.GroupID, Body: u.Body} }

// IDs are the tasks whose records decide.
func (u Unlock) IDs() []string {
	var ids []string
	var walk func(ms []member)
	walk = func(ms []member) {
		for _, m := range ms {
			if m.group {
				walk(m.members)
			} else {
				ids = append(ids, m.id)
			}
		}
	}
	walk(u.members)
	return ids
}

// A Joined is the state of a chord's header.
type Joined struct {
	Ready     bool
	Results   []protocol.Value    // in order, those of a group as a list, when Ready and nothing failed
	FailedID  string              // the first, in order, that failed or was revoked
	Exception *protocol.Exception // and why; nil: nothing failed
}

// Check joins the header from the records; load answers false for a task that has none. A header is ready
// when every task of IDs has ended, and only then does a failure count. Of a member that failed, load is
// asked for what came before it as well: the first of those that failed is the reason, as for a Python
// caller who waits for that member.
func (u Unlock) Check(load func(id string) (protocol.Result, bool)) Joined {
	records := map[string]protocol.Result{}
	for _, id := range u.IDs() {
		rec, ok := load(id)
		if !ok || !rec.Status.Ready() {
			return Joined{}
		}
		records[id] = rec
	}
	j := Joined{Ready: true}
	j.Results = j.join(u.members, records, load)
	if j.Exception != nil {
		j.Results = nil
	}
	return j
}

func (j *Joined) join(members []member, records map[string]protocol.Result, load func(string) (protocol.Result, bool)) []protocol.Value {
	out := make([]protocol.Value, 0, len(members))
	for _, m := range members {
		if m.group {
			out = append(out, j.join(m.members, records, load))
			continue
		}
		rec := records[m.id]
		if rec.Status != protocol.Success && j.Exception == nil {
			before := &Joined{}
			before.parents(m.parent, load)
			if j.FailedID, j.Exception = before.FailedID, before.Exception; j.Exception == nil {
				j.failed(m.id, rec)
			}
		}
		out = append(out, rec.Value)
	}
	return out
}

// parents looks for the first failure before a member, the oldest first.
func (j *Joined) parents(m *member, load func(string) (protocol.Result, bool)) {
	if m == nil {
		return
	}
	if j.parents(m.parent, load); j.Exception != nil {
		return
	}
	if !m.group {
		if rec, ok := load(m.id); ok && (rec.Status == protocol.Failure || rec.Status == protocol.Revoked) {
			j.failed(m.id, rec)
		}
		return
	}
	for i := range m.members {
		one := m.members[i]
		one.parent = nil
		if j.parents(&one, load); j.Exception != nil {
			return
		}
	}
}

func (j *Joined) failed(id string, rec protocol.Result) {
	if j.FailedID, j.Exception = id, rec.Exception; j.Exception == nil {
		j.Exception = protocol.NewException("Exception", string(rec.Status))
	}
}
