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

// inShell is what a script prints in a shell where `stalk` is this program, and the folder that it runs in.
func inShell(t *testing.T, name string, args ...string) (out, dir string) {
	t.Helper()
	shell, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here", name)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.Symlink(exe, filepath.Join(dir, "stalk")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), shell, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "STALK_TEST_COMMAND_LINE=1", "HOME="+dir, "XDG_DATA_HOME="+filepath.Join(dir, ".fish"), "XDG_CONFIG_HOME="+filepath.Join(dir, ".fish"), "PATH="+dir+":"+os.Getenv("PATH"))
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return string(text), dir
}

// offers compares what a shell offers, and that it has run nothing of what was typed.
func offers(t *testing.T, got, want, dir string) {
	t.Helper()
	if got != want {
		t.Errorf("offered\n%s\nwant\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "evaluated")); !errors.Is(err, os.ErrNotExist) {
		t.Error("what was typed was run")
	}
}

func TestCompletionInABash(t *testing.T) {
	out, dir := inShell(t, "bash", "--norc", "-c", `. <(stalk completion bash)
complete -p stalk
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _stalk_complete; echo "${COMPREPLY[*]}"; }
try stalk purg
try stalk inspect active
try stalk call --ser
try stalk '$(touch evaluated)' ''
`)
	offers(t, out, "complete -o default -F _stalk_complete stalk\npurge\nactive active_queues\n--serializer\n\n", dir)
}

// zsh's own part, which needs a terminal, is played: it calls the function with words and CURRENT, and is told by compadd.
func TestCompletionInAZsh(t *testing.T) {
	out, dir := inShell(t, "zsh", "-f", "-c", `compdef() { print -r -- "compdef $*" }
compadd() { shift; print -r -- "$*" }
_files() { print -r -- "files" }
. <(stalk completion zsh)
try() { words=("$@"); CURRENT=$#; _stalk_complete; }
try stalk purg
try stalk inspect active
try stalk call --ser
try stalk --config ''
try stalk '$(touch evaluated)' ''
`)
	offers(t, out, "compdef _stalk_complete stalk\npurge\nactive active_queues\n--serializer\nfiles\nfiles\n", dir)
}

func TestCompletionInAFish(t *testing.T) {
	out, dir := inShell(t, "fish", "-c", `stalk completion fish | source
complete -C 'stalk purg'
complete -C 'stalk inspect active'
complete -C 'stalk call --ser'
complete -C 'stalk --config f'
complete -C 'stalk "$(touch evaluated)" nothing'
complete -C 'stalk completion '
`)
	offers(t, out, "purge\nactive\nactive_queues\n--serializer\nfile.yaml\nbash\nfish\nzsh\n", dir)
}
