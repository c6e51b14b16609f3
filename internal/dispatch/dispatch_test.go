package dispatch_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/canvas"
	"github.com/stalkworker/stalk/internal/dispatch"
	"github.com/stalkworker/stalk/protocol"
	"github.com/stalkworker/stalk/resultbackend"
	"github.com/stalkworker/stalk/resultbackend/memresult"
	"github.com/stalkworker/stalk/transports"
	"github.com/stalkworker/stalk/transports/membroker"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// recorder keeps what was published.
type recorder struct{ sent []transports.Publishing }

func (r *recorder) Publish(_ context.Context, p transports.Publishing) error {
	r.sent = append(r.sent, p)
	return nil
}

func TestASendIsAMessageThatMustArrive(t *testing.T) {
	t.Parallel()
	queue := &canvas.Queue{Name: "q", Exchange: "x", ExchangeType: "topic", RoutingKey: "a.#", Quorum: true}
	plain := transports.Queue{Name: "q", Exchange: "x", Type: "topic", RoutingKey: "a.#", Create: true, Arguments: protocol.ObjectOf(protocol.Member{Key: "x-queue-type", Value: "quorum"})}
	task := func(exchange, key string) *protocol.Task {
		return &protocol.Task{ID: "t", Name: "n", Exchange: exchange, RoutingKey: key, Expires: now.Add(time.Minute)}
	}
	type result struct {
		Exchange, RoutingKey, ExchangeType string
		Durable, Mandatory, Declared       bool
		ContentType, Compression           string
		Mode                               uint8
		Expiration                         string
	}
	usual := result{Mandatory: true, ContentType: "application/json", Mode: 2, RoutingKey: "q", Expiration: "60000"}
	change := func(edit func(*result)) result { r := usual; edit(&r); return r }
	for _, tt := range []struct {
		name string
		enc  protocol.Encoding
		send canvas.Send
		want result
	}{
		{"to a queue by its name", protocol.Encoding{}, canvas.Send{Task: task("", "q")}, usual},
		{"the queue is declared first", protocol.Encoding{}, canvas.Send{Task: task("", "q"), Queue: queue}, change(func(r *result) { r.Declared = true })},
		{"the queue's exchange is declared too", protocol.Encoding{}, canvas.Send{Task: task("x", "a.b"), Queue: queue}, change(func(r *result) {
			r.Declared, r.Exchange, r.RoutingKey, r.ExchangeType, r.Durable = true, "x", "a.b", "topic", true
		})},
		{"another exchange is not known", protocol.Encoding{}, canvas.Send{Task: task("y", "a.b"), Queue: queue}, change(func(r *result) {
			r.Declared, r.Exchange, r.RoutingKey = true, "y", "a.b"
		})},
		{"a broadcast may be heard by nobody", protocol.Encoding{}, canvas.Send{Task: task("f", "k"), Queue: &canvas.Queue{Name: "q", Exchange: "f", ExchangeType: "fanout"}}, change(func(r *result) {
			r.Exchange, r.RoutingKey, r.ExchangeType, r.Durable, r.Mandatory, r.Declared = "f", "k", "fanout", true, false, true
		})},
		{"transient", protocol.Encoding{}, canvas.Send{Task: task("", "q"), DeliveryMode: 1}, change(func(r *result) { r.Mode = 1 })},
		{"by the settings' serializer and compression", protocol.Encoding{Serializer: "yaml", Compression: "gzip"}, canvas.Send{Task: task("", "q")}, change(func(r *result) {
			r.ContentType, r.Compression = "application/x-yaml", "application/x-gzip"
		})},
		{"by its own", protocol.Encoding{Serializer: "yaml", Compression: "gzip"}, canvas.Send{Task: task("", "q"), Serializer: "json", Compression: "bzip2"}, change(func(r *result) {
			r.Compression = "application/x-bz2"
		})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rec := &recorder{}
			d := &dispatch.Dispatcher{Publisher: rec, Encoding: tt.enc}
			if err := d.Do(t.Context(), tt.send, now); err != nil {
				t.Fatal(err)
			}
			p := rec.sent[0]
			m := p.Message
			compression, _ := m.Headers.Get("compression")
			codec, _ := compression.(string)
			got := result{
				Exchange: p.Exchange, RoutingKey: p.RoutingKey, ExchangeType: p.ExchangeType, Durable: p.ExchangeDurable, Mandatory: p.Mandatory,
				Declared: p.Declare != nil, ContentType: m.Properties.ContentType, Compression: codec, Mode: m.Properties.DeliveryMode, Expiration: m.Properties.Expiration,
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.send.Queue == queue {
				if diff := cmp.Diff(plain, *p.Declare, cmp.Comparer(sameObject)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func sameObject(a, b *protocol.Object) bool { return protocol.Repr(a) == protocol.Repr(b) }

func TestAMessageThatCannotBeWrittenIsAnEncodeError(t *testing.T) {
	t.Parallel()
	d := &dispatch.Dispatcher{Publisher: &recorder{}}
	err := d.Do(t.Context(), canvas.Send{Task: &protocol.Task{ID: "t", Name: "n", RoutingKey: "q", Args: []protocol.Value{struct{}{}}}}, now)
	if e := (*protocol.EncodeError)(nil); !errors.As(err, &e) {
		t.Errorf("error is %v, want an *EncodeError", err)
	}
	if err = d.Do(t.Context(), canvas.Send{Task: &protocol.Task{ID: "t", Name: "n", RoutingKey: "q"}, Serializer: "pickle"}, now); err == nil {
		t.Error("an unknown serializer is no error")
	}
}

func TestEffectsOfAChordReachTheStore(t *testing.T) {
	t.Parallel()
	store := memresult.New()
	d := &dispatch.Dispatcher{Publisher: &recorder{}, Results: store}
	for _, e := range []canvas.Effect{canvas.ChordBegin{GroupID: "g"}, canvas.ChordSize{GroupID: "g", N: 1}, canvas.ChordGrow{GroupID: "g"}} {
		if err := d.Do(t.Context(), e, now); err != nil {
			t.Fatalf("%T: %v", e, err)
		}
	}
	// Expected one, grown by one: the second part completes it.
	for i, want := range []resultbackend.TallyState{resultbackend.Open, resultbackend.Claimed} {
		m := resultbackend.Member{GroupID: "g", TaskID: string(rune('a' + i)), Index: int64(i), State: protocol.Success}
		tally, err := store.Count(t.Context(), m)
		if err != nil || tally.State != want {
			t.Errorf("part %d: %v, %v, want %v", i, tally.State, err, want)
		}
	}
	if dispatch.Repeatable(canvas.ChordGrow{}) || !dispatch.Repeatable(canvas.ChordSize{}) {
		t.Error("ChordGrow alone must not be repeated")
	}
}

func TestTheShapeOfAHeaderWithGroupsIsSaved(t *testing.T) {
	t.Parallel()
	store := memresult.New()
	d := &dispatch.Dispatcher{Publisher: &recorder{}, Results: store}
	task := func(id string) protocol.Value {
		return []protocol.Value{[]protocol.Value{id, nil}, nil}
	}
	record := []protocol.Value{[]protocol.Value{"g", nil}, []protocol.Value{task("a"), []protocol.Value{[]protocol.Value{"h", nil}, []protocol.Value{task("b"), task("c")}}}}
	for _, e := range []canvas.Effect{canvas.ChordBegin{GroupID: "g", Record: record}, canvas.ChordSize{GroupID: "g", N: 3}} {
		if err := d.Do(t.Context(), e, now); err != nil {
			t.Fatal(err)
		}
	}
	var tally resultbackend.Tally
	for i, id := range []string{"a", "b", "c"} {
		r := protocol.Result{TaskID: id, Status: protocol.Success, Value: int64(i)}
		if err := store.Store(t.Context(), resultbackend.Record{Result: r}); err != nil {
			t.Fatal(err)
		}
		var err error
		if tally, err = store.Count(t.Context(), resultbackend.Member{GroupID: "g", TaskID: id, Index: int64(i), State: protocol.Success, Value: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if tally.State != resultbackend.Claimed {
		t.Fatalf("the last part is %v, want claimed", tally.State)
	}
	h, err := tally.Claim.Results(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := protocol.Repr(h.Values); got != "[0, [1, 2]]" {
		t.Errorf("the body gets %s", got)
	}
}

func TestAFailureIsRecordedForWhoWaits(t *testing.T) {
	t.Parallel()
	e := canvas.StoreFailure{
		TaskID: "t", GroupID: "g", ParentID: "p", ReplyTo: "r", Exception: protocol.NewException("ValueError", "no"), Traceback: "tb",
		Extended: &protocol.Extended{Name: "n"},
	}
	for _, extended := range []bool{false, true} {
		store := memresult.New()
		d := &dispatch.Dispatcher{Publisher: &recorder{}, Results: store, Extended: extended}
		if err := d.Do(t.Context(), e, now); err != nil {
			t.Fatal(err)
		}
		rec := store.Records("t")[0]
		if want := (protocol.ReplyTo{Queue: "r", CorrelationID: "t"}); rec.ReplyTo != want {
			t.Errorf("reply to %v, want %v", rec.ReplyTo, want)
		}
		r := rec.Result
		if r.Status != protocol.Failure || r.GroupID != "g" || r.ParentID != "p" || r.Traceback != "tb" || !r.DateDone.Equal(now) || r.Exception.Error() != "ValueError: no" {
			t.Errorf("stored %+v", r)
		}
		if (r.Extended != nil) != extended {
			t.Errorf("extended %v: stored %v", extended, r.Extended)
		}
	}
}

func TestWhatCannotBeDoneSaysSo(t *testing.T) {
	t.Parallel()
	plain := struct{ resultbackend.Backend }{memresult.New()} // counts nothing
	for _, tt := range []struct {
		name    string
		results resultbackend.Backend
		effect  canvas.Effect
		want    error
	}{
		{"a part is the worker's", memresult.New(), canvas.Part{TaskID: "t", GroupID: "g"}, dispatch.ErrPart},
		{"begin without counting", plain, canvas.ChordBegin{GroupID: "g"}, dispatch.ErrNoChords},
		{"size without counting", plain, canvas.ChordSize{GroupID: "g"}, dispatch.ErrNoChords},
		{"grow without a store", nil, canvas.ChordGrow{GroupID: "g"}, dispatch.ErrNoChords},
		{"a failure without a store is nobody's", nil, canvas.StoreFailure{TaskID: "t"}, nil},
	} {
		d := &dispatch.Dispatcher{Publisher: &recorder{}, Results: tt.results}
		if err := d.Do(t.Context(), tt.effect, now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := (&dispatch.Dispatcher{}).Do(t.Context(), nil, now); err == nil {
		t.Error("no effect is no error")
	}
}

func TestAPlanArrivesThroughABroker(t *testing.T) {
	t.Parallel()
	broker := membroker.New()
	conn, err := broker.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	routes, err := canvas.ParseRoutes(map[string]any{
		"task_routes":             map[string]any{"add": "sums"},
		"task_queue_max_priority": 7,
		"task_queues":             map[string]any{"celery": map[string]any{"queue_arguments": map[string]any{"x-max-priority": 3}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	env := &canvas.Env{NewID: func() string { n++; return string(rune('a' + n)) }, Now: now, Routes: routes}
	plan, err := canvas.Apply(canvas.Group(canvas.New("add", 1), canvas.New("add", 2), canvas.New("other")), nil, nil, nil, env)
	if err != nil {
		t.Fatal(err)
	}
	d := &dispatch.Dispatcher{Publisher: conn}
	for _, e := range plan.Effects {
		if err := d.Do(t.Context(), e, now); err != nil {
			t.Fatal(err)
		}
	}
	if got := []int{broker.Ready("sums"), broker.Ready("celery")}; !cmp.Equal(got, []int{2, 1}) {
		t.Errorf("sums and celery hold %v messages, want 2 and 1", got)
	}
	for name, want := range map[string]int64{"sums": 7, "celery": 3} {
		q, _ := routes.Queue(name)
		if got, _ := dispatch.Declaration(&q).Arguments.Get("x-max-priority"); got != want {
			t.Errorf("queue %s: x-max-priority %v, want %d", name, got, want)
		}
	}
}
