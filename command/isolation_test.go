package command

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/handlers/images"
	"github.com/stalkworker/stalk/protocol"
)

// TestChildrenServeWhatTheWorkerServes: aliases and the media root too, which the command line names.
func TestChildrenServeWhatTheWorkerServes(t *testing.T) {
	s := startDemo(t)
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.txt"), []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr output
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := make(chan int, 1)
	args := []string{
		"stalk", "worker", "-b", s.url, "-Q", "mine", "-c", "1", "-n", "w7@%h", "-l", "info", "--media-root", root,
		"--alias", "myapp.thumb=stalk.images.thumbnail", "--serve", "myapp.*", "--max-tasks-per-child", "1",
	}
	go func() {
		end <- run(ctx, Program{}, args, process{stdout: &stdout, stderr: &stderr, environ: []string{"CELERY_RESULT_BACKEND=" + s.url, "CELERY_WORKER_PROC_ALIVE_TIMEOUT=60"}})
	}()
	stderr.wait(t, `w7@\S+ ready\.`)
	for i := range 2 {
		r := call(t, s.url, "mine", protocol.Task{ID: fmt.Sprint("x", i), Name: "myapp.thumb", Args: []protocol.Value{"a.txt"}, Kwargs: &protocol.Object{}})
		if r.Status != protocol.Failure || r.Exception.Type != "ValueError" {
			t.Errorf("the task in a child: %+v", r)
		}
	}
	cancel()
	if code := <-end; code != 0 {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
	if strings.Contains(stderr.String(), "has no effect") || strings.Contains(stderr.String(), "exited with") {
		t.Errorf("the log:\n%s", stderr.String())
	}
}

func TestImagesAreIsolatedUnlessToldOtherwise(t *testing.T) {
	root := t.TempDir()
	for _, tt := range []struct {
		name  string
		ch    choice
		want  bool
		limit bool
	}{
		{"by default", choice{MediaRoot: root, isolateImages: true, ownLimit: true}, true, true},
		{"with the worker's limit", choice{MediaRoot: root, isolateImages: true}, true, false},
		{"in process", choice{MediaRoot: root, ownLimit: true}, false, false},
	} {
		reg, err := Program{}.registry(tt.ch)
		if err != nil {
			t.Fatal(err)
		}
		h, _ := reg.Lookup("stalk.images.thumbnail")
		o := h.Options()
		if o.Isolate != tt.want || (o.MemoryCap > 32*images.DefaultMaxPixels) != tt.want || (o.HardLimit > 0) != tt.limit {
			t.Errorf("%s: %+v", tt.name, o)
		}
	}
}
