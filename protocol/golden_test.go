package protocol_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stalkworker/stalk/protocol"
)

// A golden file is what pyfixtures/generate.py recorded from one version of the real Celery.
type golden struct {
	Versions map[string]string `json:"versions"`
	Now      time.Time         `json:"now"`
	Tasks    []goldenTask      `json:"tasks"`
	Refused  []struct {
		Name     string `json:"name"`
		Envelope string `json:"envelope"`
		Celery   string `json:"celery"` // what Celery makes of it
	} `json:"refused"`
	Retries []struct {
		Name     string     `json:"name"`
		Of       string     `json:"of"`
		ETA      *time.Time `json:"eta"`
		Envelope string     `json:"envelope"`
	} `json:"retries"`
	Results []goldenResult `json:"results"`
}

type goldenTask struct {
	Name        string `json:"name"`
	Zone        string `json:"zone"`
	Serializer  string `json:"serializer"`
	Compression string `json:"compression"`
	Envelope    string `json:"envelope"`
	AMQP        struct {
		Properties map[string]any `json:"properties"`
		Headers    string         `json:"headers"`
	} `json:"amqp"`
	Body    []byte  `json:"body"`
	Reading reading `json:"reading"`
}

// A reading is how Celery's own worker understands the message.
type reading struct {
	Args          *string         `json:"args"` // kombu JSON text, like the other texts below
	Kwargs        *string         `json:"kwargs"`
	Name          string          `json:"name"`
	Display       string          `json:"display"`
	ID            string          `json:"id"`
	RootID        string          `json:"root_id"`
	ParentID      string          `json:"parent_id"`
	Group         string          `json:"group"`
	GroupIndex    *int64          `json:"group_index"`
	Retries       int             `json:"retries"`
	ETA           *time.Time      `json:"eta"`
	Expires       *time.Time      `json:"expires"`
	ExpiresText   string          `json:"expires_text"`
	Hard          float64         `json:"hard"`
	Soft          float64         `json:"soft"`
	IgnoreResult  *bool           `json:"ignore_result"`
	Nesting       int             `json:"nesting"`
	StampNames    json.RawMessage `json:"stamped_headers"`
	Stamps        string          `json:"stamps"`
	ArgsRepr      string          `json:"argsrepr"`
	KwargsRepr    string          `json:"kwargsrepr"`
	Origin        string          `json:"origin"`
	Custom        string          `json:"custom"`
	Callbacks     string          `json:"callbacks"`
	Errbacks      string          `json:"errbacks"`
	Chain         string          `json:"chain"`
	Chord         string          `json:"chord"`
	CorrelationID string          `json:"correlation_id"`
	ReplyTo       string          `json:"reply_to"`
	DeliveryInfo  struct {
		Exchange    string `json:"exchange"`
		RoutingKey  string `json:"routing_key"`
		Priority    *int   `json:"priority"`
		Redelivered bool   `json:"redelivered"`
	} `json:"delivery_info"`
}

type goldenResult struct {
	Name        string  `json:"name"`
	Serializer  string  `json:"serializer"`
	Compression string  `json:"compression"`
	Zone        string  `json:"zone"`
	Data        []byte  `json:"data"`
	State       string  `json:"state"`
	Traceback   string  `json:"traceback"`
	Value       *string `json:"value"`
	Exception   *struct {
		Type   string  `json:"type"`
		Module string  `json:"module"`
		Repr   string  `json:"repr"`
		Str    string  `json:"str"`
		Args   *string `json:"args"`
	} `json:"exception"`
}

const newest = "5.7.0"

// goldens runs fn for each recorded version of Celery.
func goldens(t *testing.T, fn func(t *testing.T, version string, g golden)) {
	t.Helper()
	paths, err := filepath.Glob("testdata/golden/celery-*.json")
	if err != nil || len(paths) < 5 {
		t.Fatalf("golden files: %v %v, want five versions", paths, err)
	}
	for _, path := range paths {
		version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "celery-"), ".json")
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			fn(t, version, readGolden(t, path))
		})
	}
}

func readGolden(t testing.TB, path string) golden {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return g
}

func newestGolden(t testing.TB) golden {
	t.Helper()
	return readGolden(t, "testdata/golden/celery-"+newest+".json")
}

// all is everything these tests accept.
var all = protocol.DecodeOptions{Accept: []string{"json", "msgpack", "yaml"}}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// kombu is v as Kombu's JSON, which shows every type.
func kombu(t testing.TB, v protocol.Value) string {
	t.Helper()
	text, err := protocol.AppendJSON(nil, v)
	if err != nil {
		t.Fatalf("AppendJSON(%#v): %v", v, err)
	}
	return string(text)
}

func kombuList(t testing.TB, list []protocol.Value) string {
	t.Helper()
	if list == nil {
		return "null"
	}
	return kombu(t, list)
}

func decodeEnvelope(t testing.TB, envelope string) protocol.Message {
	t.Helper()
	m, _, err := protocol.DecodeEnvelope([]byte(envelope), protocol.Limits{})
	if err != nil {
		t.Fatalf("DecodeEnvelope: %v", err)
	}
	return m
}

// deliveryTag finds the tag of an envelope without our own decoder.
func deliveryTag(t testing.TB, envelope string) string {
	t.Helper()
	const key = `"delivery_tag": "`
	i := strings.LastIndex(envelope, key)
	if i < 0 {
		t.Fatal("envelope without delivery_tag")
	}
	tag, _, _ := strings.Cut(envelope[i+len(key):], `"`)
	return tag
}

// seal writes m as an envelope with the tag of another one.
func seal(t testing.TB, m protocol.Message, like string) string {
	t.Helper()
	out, err := protocol.EncodeEnvelope(m, deliveryTag(t, like))
	if err != nil {
		t.Fatalf("EncodeEnvelope: %v", err)
	}
	return string(out)
}

// withBody is an envelope with another body, for messages whose compressed bytes differ between libraries.
func withBody(t testing.TB, envelope string, body []byte) string {
	t.Helper()
	const key = `{"body": "`
	_, rest, ok := strings.Cut(strings.TrimPrefix(envelope, key), `"`)
	if !strings.HasPrefix(envelope, key) || !ok {
		t.Fatal("envelope does not begin with its body")
	}
	return key + base64.StdEncoding.EncodeToString(body) + `"` + rest
}
