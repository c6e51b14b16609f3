package interop_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// snippet is the Python program of docs/settings.md that writes an app's settings, for the given app.
func snippet(t *testing.T, app string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/settings.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```python\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatal("docs/settings.md has no Python")
	}
	code := strings.Replace(string(m[1]), "from proj.celery import app", "from "+app+" import app", 1)
	if code == string(m[1]) {
		t.Fatalf("no app to replace in\n%s", code)
	}
	return code
}

// TestSettingsOfADjangoProject: what the documented snippet writes of the Django project's settings is all that a
// worker needs to serve its tasks.
func TestSettingsOfADjangoProject(t *testing.T) {
	onBoth(t, func(t *testing.T, s setup) {
		queue := unique("django")
		s = s.with("task_default_queue", queue).with("result_extended", true).with("worker_prefetch_multiplier", 7).with("timezone", nil)
		cmd := exec.Command(python, "-c", snippet(t, "project.celery"))
		cmd.Dir, cmd.Env = filepath.Join(root, "pyfixtures/django_project"), s.environment()
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		path := filepath.Join(t.TempDir(), "celery.yaml")
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
		name := unique("stalk")
		cmd = exec.Command(stalkBin, "worker", "--config", path, "--demo", "-c", "1", "-l", "INFO", "-n", name+"@test")
		w := startWorker(t, cmd, name)
		w.waitReady()
		s.python(t, queue).run(`
			r = add.apply_async((2, 3), queue=Q)
			assert r.get(timeout=60) == 5
			assert r.name == "demo.add", "result_extended did not arrive"
		`)
		for _, want := range []string{"exchange=" + queue + "(direct)"} {
			if !strings.Contains(string(w.output()), want) {
				t.Errorf("no %q in the banner:\n%s\nsettings:\n%s", want, w.output(), out)
			}
		}
		conf := s.celeryCommand(t, "inspect", "-d", name+"@test", "-t", "60", "-j", "conf")[name+"@test"].(map[string]any)
		if conf["worker_prefetch_multiplier"] != 7.0 || conf["task_routes"].(map[string]any)["demo.*"] == nil {
			t.Errorf("conf = %v", conf)
		}
	})
}

// The snippet writes what has no form in YAML, and Django's own settings file may be given as it is.
func TestSettingsWithPythonObjects(t *testing.T) {
	need(t)
	t.Parallel()
	dir := t.TempDir()
	app := `
import datetime
from celery import Celery
from kombu import Exchange, Queue
app = Celery("shop", broker="` + redisURL + `")
app.conf.result_expires = datetime.timedelta(hours=2)
app.conf.task_queues = [Queue("mail", Exchange("post", type="topic"), routing_key="mail.#", queue_arguments={"x-max-priority": 5}), Queue("plain")]
app.conf.task_routes = {"mail.*": {"queue": "mail"}}
app.conf.accept_content = {"json", "yaml"}
app.conf.beat_schedule = {"x": {"task": "x", "schedule": 5}}
`
	if err := os.WriteFile(filepath.Join(dir, "shop.py"), []byte(app), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", snippet(t, "shop"))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := filepath.Join(dir, "celery.yaml")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	name := unique("stalk")
	w := startWorker(t, exec.Command(stalkBin, "--config", path, "worker", "--demo", "-l", "INFO", "-X", "plain", "-n", name+"@test"), name)
	w.waitReady()
	log := string(w.output())
	if !strings.Contains(log, ".> mail             exchange=post(topic) key=mail.#") || strings.Contains(log, "settings without effect") {
		t.Errorf("settings:\n%s\nlog:\n%s", out, log)
	}
}

// TestOldNamesAreThoseOfCelery: the table of the names from before Celery 4, and the list of settings, are the
// installed Celery's.
func TestOldNamesAreThoseOfCelery(t *testing.T) {
	need(t)
	t.Parallel()
	out, err := exec.Command(python, "-c", "import json, celery.app.defaults as d; print(json.dumps([d._TO_NEW_KEY, sorted(d.DEFAULTS)]))").Output()
	if err != nil {
		t.Fatal(err)
	}
	var celery struct {
		old      map[string]string
		settings []string
	}
	if err := json.Unmarshal(out, &[]any{&celery.old, &celery.settings}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "celery.yaml")
	names := func(all ...string) string {
		lines := "broker_url: 'redis://127.0.0.1:1/0'\n"
		for _, name := range all {
			lines += name + ": null\n"
		}
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command(stalkBin, "--config", path, "worker", "--demo", "-c", "0x").CombinedOutput()
		return string(out)
	}
	if got := names(celery.settings...); strings.Contains(got, "is no Celery setting") {
		t.Error(got)
	}
	// Beside new names, as long as those are more, old ones are refused, with the new name to write instead.
	for some := range slices.Chunk(slices.Sorted(maps.Keys(celery.old)), 60) {
		given := slices.DeleteFunc(slices.Clone(celery.settings), func(name string) bool {
			return name == "broker_url" || slices.ContainsFunc(some, func(old string) bool { return celery.old[old] == name })
		})
		got := names(append(given, some...)...)
		for _, old := range some {
			if now := celery.old[old]; now != "broker_url" && !regexp.MustCompile(`(?m)^`+old+` +-> `+now+`$`).MatchString(got) {
				t.Errorf("%s, which is %s:\n%s", old, now, got)
			}
		}
	}
}
