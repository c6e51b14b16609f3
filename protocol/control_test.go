package protocol_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stalkworker/stalk/protocol"
)

// goldenControl is what pyfixtures/control.py recorded from the real Kombu.
type goldenControl struct {
	Nodes    []string `json:"nodes"`
	Commands []struct {
		Name     string `json:"name"`
		Method   string `json:"method"`
		Envelope string `json:"envelope"`
	} `json:"commands"`
	Replies []struct {
		Name     string `json:"name"`
		Value    string `json:"value"`
		Envelope string `json:"envelope"`
	} `json:"replies"`
	Chosen []struct {
		Matcher string   `json:"matcher"`
		Pattern string   `json:"pattern"`
		Nodes   []string `json:"nodes"`
	} `json:"chosen"`
}

func readGoldenControl(t testing.TB) goldenControl {
	t.Helper()
	data, err := os.ReadFile("testdata/golden/control-5.7.0.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenControl
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

const tag = "00000000-0000-4000-8000-000000000001"

// TestControlCommandsOfKombuAreReadAndWrittenAlike: what Celery's client broadcasts is understood, and written
// again gives the same bytes.
func TestControlCommandsOfKombuAreReadAndWrittenAlike(t *testing.T) {
	t.Parallel()
	for _, g := range readGoldenControl(t).Commands {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			m, _, err := protocol.DecodeEnvelope([]byte(g.Envelope), protocol.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := protocol.DecodeControl(m, protocol.DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Method != g.Method || r.Clock == 0 || (r.ReplyTo == nil) != (g.Name == "a cast") {
				t.Errorf("read as %+v", r)
			}
			expires, _ := m.Headers.Get("expires")
			until, _ := expires.(float64)
			again, err := r.Encode(protocol.Encoding{}, until)
			if err != nil {
				t.Fatal(err)
			}
			again.Exchange, again.RoutingKey = protocol.ControlExchange("celery"), ""
			raw, err := protocol.EncodeEnvelope(again, tag)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.Envelope, string(raw)); diff != "" {
				t.Errorf("written again (-kombu +ours):\n%s", diff)
			}
		})
	}
}

// TestControlRepliesAreKombusBytes: an answer is the very message a Python node sends.
func TestControlRepliesAreKombusBytes(t *testing.T) {
	t.Parallel()
	for i, g := range readGoldenControl(t).Replies {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			want, _, err := protocol.DecodeEnvelope([]byte(g.Envelope), protocol.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			value, err := protocol.ParseJSON([]byte(g.Value), protocol.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			ticket, _ := want.Headers.Get("ticket")
			r := protocol.ControlRequest{Ticket: ticket, ReplyTo: &protocol.ControlAddress{
				Exchange: protocol.ControlReplyExchange("celery"), RoutingKey: want.RoutingKey,
			}}
			m, err := r.Reply(protocol.Encoding{}, "w1@web1", value, protocol.ControlClock(want))
			if err != nil {
				t.Fatal(err)
			}
			m.Exchange, m.RoutingKey = r.ReplyTo.Exchange, r.ReplyTo.RoutingKey
			raw, err := protocol.EncodeEnvelope(m, tag)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.Envelope, string(raw)); diff != "" {
				t.Errorf("reply %d (-kombu +ours):\n%s", i, diff)
			}
		})
	}
}

// TestControlPatternsChooseWhatKombuChooses: globs and regular expressions over node names.
func TestControlPatternsChooseWhatKombuChooses(t *testing.T) {
	t.Parallel()
	g := readGoldenControl(t)
	for _, c := range g.Chosen {
		t.Run(c.Matcher+" "+c.Pattern, func(t *testing.T) {
			t.Parallel()
			got := []string{}
			for _, node := range g.Nodes {
				ours, err := protocol.ControlRequest{Pattern: c.Pattern, Matcher: c.Matcher}.For(node)
				if err != nil {
					t.Fatal(err)
				}
				if ours {
					got = append(got, node)
				}
			}
			if !slices.Equal(got, c.Nodes) {
				t.Errorf("chose %q, Kombu %q", got, c.Nodes)
			}
		})
	}
}

func TestControlFor(t *testing.T) {
	t.Parallel()
	const node = "w1@web1"
	for _, tt := range []struct {
		name string
		r    protocol.ControlRequest
		want bool
		fail bool
	}{
		{name: "nobody chosen is everybody", want: true},
		{name: "an empty list is everybody", r: protocol.ControlRequest{Destination: []string{}}, want: true},
		{name: "named", r: protocol.ControlRequest{Destination: []string{"x", node}}, want: true},
		{name: "not named", r: protocol.ControlRequest{Destination: []string{"x"}}},
		{name: "a destination wins over a pattern", r: protocol.ControlRequest{Destination: []string{"x"}, Pattern: "*", Matcher: "glob"}},
		{name: "a pattern without matcher is ignored", r: protocol.ControlRequest{Pattern: "x"}, want: true},
		{name: "unknown matcher", r: protocol.ControlRequest{Pattern: "x", Matcher: "magic"}, fail: true},
		{name: "no expression", r: protocol.ControlRequest{Pattern: "(", Matcher: "pcre"}, fail: true},
		{name: "an endless pattern", r: protocol.ControlRequest{Pattern: strings.Repeat("*", 5000), Matcher: "glob"}, fail: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := tt.r.For(node)
			if got != tt.want || (err != nil) != tt.fail {
				t.Errorf("For = %v, %v; want %v, an error: %v", got, err, tt.want, tt.fail)
			}
		})
	}
}

// TestControlGarbageNamesItsPart: what cannot be read says where, and nothing panics.
func TestControlGarbageNamesItsPart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, content, body, part string
		is                        error
	}{
		{name: "not accepted", content: "application/x-python-serialize", body: "x", part: "properties.content_type", is: protocol.ErrRefusedContent},
		{name: "no content type", body: `{"method": "ping"}`, part: "properties.content_type"},
		{name: "no json", content: "application/json", body: "{", part: "body.json"},
		{name: "a list", content: "application/json", body: `["ping"]`, part: "body"},
		{name: "no method", content: "application/json", body: `{"arguments": {}}`, part: "body.method"},
		{name: "a method that is a number", content: "application/json", body: `{"method": 1}`, part: "body.method"},
		{name: "arguments in a list", content: "application/json", body: `{"method": "ping", "arguments": [1]}`, part: "body.arguments"},
		{name: "a destination that is a number", content: "application/json", body: `{"method": "ping", "destination": 1}`, part: "body.destination"},
		{name: "a node that is a number", content: "application/json", body: `{"method": "ping", "destination": [1]}`, part: "body.destination[0]"},
		{name: "reply_to is a text", content: "application/json", body: `{"method": "ping", "reply_to": "x"}`, part: "body.reply_to"},
		{name: "an exchange that is a list", content: "application/json", body: `{"method": "ping", "reply_to": {"exchange": []}}`, part: "body.reply_to.exchange"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := protocol.DecodeControl(protocol.Message{
				Properties: protocol.Properties{ContentType: tt.content}, Body: []byte(tt.body),
			}, protocol.DecodeOptions{})
			wrong, ok := errors.AsType[*protocol.DecodeError](err)
			if !ok || wrong.Part != tt.part {
				t.Fatalf("error %v of part %v, want part %q", err, wrong, tt.part)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
		})
	}
}

func TestControlLenience(t *testing.T) {
	t.Parallel()
	r, err := protocol.DecodeControl(protocol.Message{
		Headers:    protocol.ObjectOf(protocol.Member{Key: "clock", Value: int64(math.MaxInt64)}, protocol.Member{Key: "expires", Value: 1.0}),
		Properties: protocol.Properties{ContentType: "application/json"},
		Body:       []byte(`{"method": "ping", "arguments": null, "destination": "w1", "reply_to": null, "ticket": "t", "more": 1}`),
	}, protocol.DecodeOptions{})
	if err != nil {
		t.Fatal(err) // a command that expired long ago runs, as with Celery
	}
	if r.Arguments == nil || r.ReplyTo != nil || !slices.Equal(r.Destination, []string{"w1"}) {
		t.Errorf("read as %+v", r)
	}
	if r.Clock+1 <= 0 || r.Clock > math.MaxInt64/2 {
		t.Errorf("the clock %d would overflow", r.Clock)
	}
	if _, err := r.Reply(protocol.Encoding{}, "w1", nil, 1); err == nil {
		t.Error("an answer that nobody waits for was written")
	}
}

func FuzzDecodeControl(f *testing.F) {
	for _, g := range readGoldenControl(f).Commands {
		m, _, err := protocol.DecodeEnvelope([]byte(g.Envelope), protocol.Limits{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add("application/json", m.Body, "w1@web1")
	}
	f.Add("application/json", []byte(`{"method":"x","pattern":"[!a-]*[","matcher":"glob"}`), "[")
	f.Add("application/json", []byte(`{"method":"x","pattern":"(?i)a{1,3}","matcher":"pcre"}`), "AAA")
	f.Fuzz(func(t *testing.T, content string, body []byte, node string) {
		r, err := protocol.DecodeControl(protocol.Message{Properties: protocol.Properties{ContentType: content}, Body: body}, protocol.DecodeOptions{})
		if err != nil {
			if _, ok := errors.AsType[*protocol.DecodeError](err); !ok {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		ours, err := r.For(node)
		m, failed := r.Encode(protocol.Encoding{}, 0)
		if failed != nil {
			t.Fatal(failed) // it came as JSON
		}
		again, failed := protocol.DecodeControl(m, protocol.DecodeOptions{})
		if failed != nil {
			t.Fatal(failed)
		}
		oursAgain, errAgain := again.For(node)
		if again.Method != r.Method || ours != oursAgain || (err == nil) != (errAgain == nil) {
			t.Errorf("%+v became %+v", r, again)
		}
	})
}
