package command

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stalkworker/stalk/handlers"
)

func TestCompletion(t *testing.T) {
	all := append(commands(Program{}, process{}), completeCommand(Program{}, process{}))
	for _, tt := range []struct {
		words string
		want  []string
	}{
		{"sta", []string{"status"}},
		{"quarantine ", []string{"drop", "list", "replay", "show"}},
		{"-b redis:// inspect reg", []string{"registered"}},
		{"control --timeout 3 pool_", []string{"pool_grow", "pool_restart", "pool_shrink"}},
		{"status --dest", []string{"--destination"}},
		{"quarantine show --lim", []string{"--limit"}},
		{"status --broker ", nil},
		{"inspect ping pi", nil},
		{"completion ", []string{"bash", "fish", "zsh"}},
		{"mig", nil},
	} {
		got := completions(strings.Split(tt.words, " "), globalFlags(), all, panels(Program{}))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q completes to %q, want %q", tt.words, got, tt.want)
		}
	}
}

// TestMain also is the program whose command line bash completes, and whose children run isolated tasks.
func TestMain(m *testing.M) {
	if (Program{Handlers: []handlers.Handler{handlers.Func("hello", hello)}}).Child() {
		return
	}
	if os.Getenv("STALK_TEST_COMMAND_LINE") != "" {
		Program{Handlers: []handlers.Handler{handlers.Func("hello", hello)}}.Main()
	}
	os.Exit(m.Run())
}

func TestCompletionInABash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(exe, filepath.Join(dir, "stalk")); err != nil {
		t.Fatal(err)
	}
	script := `. <(stalk completion bash)
complete -p stalk
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _stalk_complete; echo "${COMPREPLY[*]}"; }
try stalk purg
try stalk inspect active
try stalk call --ser
try stalk '$(touch ` + filepath.Join(dir, "evaluated") + `)' ''
`
	cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", script)
	cmd.Env = append(os.Environ(), "STALK_TEST_COMMAND_LINE=1", "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "complete -o default -F _stalk_complete stalk\npurge\nactive active_queues\n--serializer\n\n"
	if string(out) != want {
		t.Errorf("bash says\n%s\nwant\n%s", out, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "evaluated")); !errors.Is(err, os.ErrNotExist) {
		t.Error("what was typed was run")
	}
	for _, shell := range []string{"zsh", "fish"} {
		code, text, _ := stalk(t, "redis://", "completion "+shell)
		if code != 0 || !strings.Contains(text, "__complete") || strings.Contains(text, "%!") {
			t.Errorf("completion %s: code %d\n%s", shell, code, text)
		}
	}
}
