package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// What each file means was taken from Celery 5.7.0: config_from_object with and without a namespace.
func TestNamesOfSettings(t *testing.T) {
	for _, tt := range []struct {
		name, file, namespace string
		want                  map[string]any
		notes                 []string // parts of each
		err                   string
	}{
		{"new names", "{broker_url: a, worker_concurrency: 3}", "", map[string]any{"broker_url": "a", "worker_concurrency": 3}, nil, ""},
		{
			"a Django project", "{CELERY_TASK_ROUTES: {a: b}, CELERY_WORKER_CONCURRENCY: 3, CELERY_RESULT_BACKEND: r, DEBUG: true, TIME_ZONE: Europe/Paris}", "",
			map[string]any{"task_routes": map[string]any{"a": "b"}, "worker_concurrency": 3, "result_backend": "r", "timezone": "Europe/Paris"},
			nil, "",
		},
		{"its own zone wins", "{CELERY_TIMEZONE: Asia/Tokyo, TIME_ZONE: Europe/Paris}", "", map[string]any{"timezone": "Asia/Tokyo"}, nil, ""},
		{"TIME_ZONE beside new names", "{enable_utc: false, TIME_ZONE: Europe/Paris}", "", map[string]any{"enable_utc": false, "timezone": "Europe/Paris"}, nil, ""},
		{
			"with a namespace old names are read where the new one is missing", "{CELERY_TASK_ACKS_LATE: true, CELERYD_CONCURRENCY: 3, BROKER_URL: a, CELERY_BROKER_URL: b}", "",
			map[string]any{"task_acks_late": true, "worker_concurrency": 3, "broker_url": "b"},
			nil, "",
		},
		{"a prefix of one's own", "{PROJ_BROKER_URL: a, CELERY_TASK_ACKS_LATE: true}", "PROJ", map[string]any{"broker_url": "a"}, nil, ""},
		{"a prefix with its underscore", "{PROJ_BROKER_URL: a}", "PROJ_", map[string]any{"broker_url": "a"}, nil, ""},
		{"names that are old and prefixed at once", "{CELERY_RESULT_BACKEND: r, CELERY_TASK_SERIALIZER: yaml}", "", map[string]any{"result_backend": "r", "task_serializer": "yaml"}, nil, ""},
		{"a prefixed name that is none", "{CELERY_TASK_ACKS_LATE: true, CELERY_EMAIL_TASK_CONFIG: {}}", "", map[string]any{"task_acks_late": true}, []string{"not settings of Celery: CELERY_EMAIL_TASK_CONFIG"}, ""},
		{
			"old names", "{BROKER_URL: a, CELERYD_CONCURRENCY: 3, CELERY_DEFAULT_QUEUE: q, CELERY_RESULT_BACKEND: r}", "",
			map[string]any{"broker_url": "a", "worker_concurrency": 3, "task_default_queue": "q", "result_backend": "r"},
			[]string{
				"The 'BROKER_URL' setting is deprecated and scheduled for removal in version 6.0.0. Use the broker_url instead",
				"'CELERY_RESULT_BACKEND'", "'CELERY_DEFAULT_QUEUE'", "Use the worker_concurrency instead",
			},
			"",
		},
		{"an old name beside its new one", "{result_expires: 5, CELERY_TASK_RESULT_EXPIRES: 6}", "", map[string]any{"result_expires": 5}, []string{"Use the result_expires instead"}, ""},
		{"a new name's upper case is no old name", "{BROKER_URL: a, WORKER_CONCURRENCY: 3}", "", map[string]any{"broker_url": "a"}, []string{"'BROKER_URL'"}, ""},
		{"mixed, more of the new", "{broker_url: a, task_acks_late: true, CELERYD_CONCURRENCY: 3}", "", nil, nil, "ImproperlyConfigured:\n\nCannot mix new and old setting keys, please rename the\nfollowing settings to the new format:\n\nCELERYD_CONCURRENCY                  -> worker_concurrency"},
		{
			"mixed, more of the old", "{BROKER_URL: a, CELERYD_CONCURRENCY: 3, CELERY_DEFAULT_QUEUE: x, worker_concurrency: 4, task_acks_late: true}", "", nil, nil,
			"Cannot mix new setting names with old setting names, please\nrename the following settings to use the old format:\n\ntask_acks_late                       -> CELERY_ACKS_LATE\n\nOr change all of the settings to use the new format :)",
		},
		{"a typing error", "{broker_ulr: a}", "", nil, nil, `"broker_ulr" is no Celery setting; did you mean "broker_url"?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var doc map[string]any
			if err := yaml.Unmarshal([]byte(tt.file), &doc); err != nil {
				t.Fatal(err)
			}
			got, notes, err := resolveNames(doc, tt.namespace)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("settings (-want +got):\n%s", d)
			}
			if len(notes) != len(tt.notes) {
				t.Fatalf("notes %q, want %d", notes, len(tt.notes))
			}
			for i, want := range tt.notes {
				if !strings.Contains(strings.Join(notes, "\n"), want) {
					t.Errorf("note %d: no %q in %q", i, want, notes)
				}
			}
		})
	}
}

func TestOldNamesLeadToSettings(t *testing.T) {
	for old, name := range oldNames {
		if !isSetting(name) {
			t.Errorf("%s leads to %s, which is no setting", old, name)
		}
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
