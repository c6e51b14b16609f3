package canvas

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/protocol"
)

// TestRouteLikePython compares every address with the one Celery publishes to under the same settings.
func TestRouteLikePython(t *testing.T) {
	t.Parallel()
	routes, _ := goldenObject(t).Get("routes")
	for _, v := range routes.([]protocol.Value) {
		s := v.(*protocol.Object)
		t.Run(text(s, "name"), func(t *testing.T) {
			conf, _ := s.Get("conf")
			var settings map[string]any
			if err := json.Unmarshal(mustJSON(t, conf), &settings); err != nil {
				t.Fatal(err)
			}
			rt, err := ParseRoutes(settings)
			if err != nil {
				t.Fatal(err)
			}
			calls, _ := s.Get("calls")
			for _, v := range calls.([]protocol.Value) {
				c := v.(*protocol.Object)
				o, _ := c.Get("options")
				env := &Env{NewID: func() string { return "w" }, Routes: rt}
				p, err := Apply(New(text(c, "task")), nil, nil, o.(*protocol.Object), env)
				call := text(c, "task") + " with " + string(mustJSON(t, o))
				if failed := text(c, "error"); failed != "" {
					if err == nil {
						t.Errorf("%s: no error, and Celery has %s", call, failed)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", call, err)
					continue
				}
				send := p.Effects[0].(Send)
				declare := []protocol.Value{}
				if send.Queue != nil {
					declare = append(declare, send.Queue.Name)
				}
				wantDeclare, _ := c.Get("declare")
				wantPriority, _ := c.Get("priority")
				wantKey := text(c, "routing_key")
				if wantKey == "" && send.Queue == nil {
					continue // Celery publishes to nowhere
				}
				if send.Task.Exchange != text(c, "exchange") || send.Task.RoutingKey != wantKey ||
					!equal(declare, wantDeclare) || !equal(intValue(send.Task.Priority), wantPriority) {
					t.Errorf("%s: exchange %q key %q queues %v priority %v, want %s", call, send.Task.Exchange,
						send.Task.RoutingKey, declare, intValue(send.Task.Priority), mustJSON(t, c))
				}
			}
		})
	}
}

func TestRouteSettingsThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		settings map[string]any
		want     string
	}{
		"a Python router":         {map[string]any{"task_routes": "proj.routers.Router"}, "Python router"},
		"a number":                {map[string]any{"task_routes": 3}, "task_routes"},
		"a route that is a list":  {map[string]any{"task_routes": map[string]any{"a": []any{1}}}, `"a"`},
		"a broken expression":     {map[string]any{"task_routes": map[string]any{"re:(": "q"}}, "re:("},
		"a queue that is no text": {map[string]any{"task_routes": map[string]any{"a": map[string]any{"queue": 3}}}, "queue"},
		"queues without names":    {map[string]any{"task_queues": []any{map[string]any{}}}, "no name"},
		"queues that are a text":  {map[string]any{"task_queues": "a"}, "task_queues"},
		"a default that is a map": {map[string]any{"task_default_queue": map[string]any{}}, "task_default_queue"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseRoutes(tt.settings); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseRoutes = %v, want an error that names %q", err, tt.want)
			}
		})
	}
}
