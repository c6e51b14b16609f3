package isolate

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// What a child writes to its standard output and error goes to the worker's log, a record for each line, as Celery's
// redirected output. The words of a crash are kept together, for the record that tells of it.
type output struct {
	log *slog.Logger

	mu    sync.Mutex
	task  []any    // attributes of the task that runs; guarded by mu, as all below
	crash []string // lines of a crash so far
	bytes int      // of crash
	more  int      // lines beyond what is kept
	last  string   // last line seen
	over  bool     // the process has ended
}

const (
	lineMax  = 16 << 10 // a longer line is several records
	crashMax = 16 << 10 // of a crash the beginning is kept, which tells what it was and where
)

// crashBegins is how Go's runtime begins to tell of the end of a process.
var crashBegins = regexp.MustCompile(`^(panic: |fatal error: |runtime: |SIG[A-Z]+: |unexpected fault address|WARNING: DATA RACE|==================$)`)

func newOutput(log *slog.Logger, pid int) *output {
	return &output{log: log.With("pid", pid, "logger", "celery.redirected")}
}

// copy reads lines until the end.
func (o *output) copy(f *os.File) {
	r := bufio.NewReaderSize(f, lineMax)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			o.line(strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "\ufffd"))
		}
		if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint // bufio's own, unwrapped
			_, _ = io.Copy(io.Discard, f) // past a deadline or an end: nothing
			return
		}
	}
}

func (o *output) line(text string) {
	o.mu.Lock()
	if strings.TrimSpace(text) != "" {
		o.last = text
	}
	if o.crash == nil && !crashBegins.MatchString(text) {
		task := o.task
		o.mu.Unlock()
		if text != "" {
			o.log.Warn(text, task...)
		}
		return
	}
	defer o.mu.Unlock()
	if o.bytes += len(text) + 1; o.bytes > crashMax && o.crash != nil {
		o.more++
		return
	}
	if o.crash == nil && !o.over {
		time.AfterFunc(crashWait, o.survived)
	}
	o.crash = append(o.crash, text)
}

// crashWait is how long what looks like a crash may go on before it is taken for ordinary lines.
const crashWait = 2 * time.Second

// begins: the lines that come are of a task, until the next one begins: the last ones may come after its result.
func (o *output) begins(attrs []any) {
	o.mu.Lock()
	o.task = attrs
	o.mu.Unlock()
}

// survived: what looked like a crash was none. It is logged as what it is.
func (o *output) survived() {
	o.mu.Lock()
	task, over := o.task, o.over
	o.mu.Unlock()
	if over { // wait tells of it
		return
	}
	if text := o.take(); text != "" {
		o.log.Warn(text, task...)
	}
}

// end gives what is left of a crash to say, which is "" when there was none.
func (o *output) end(say func(crash string)) {
	o.mu.Lock()
	o.over = true
	o.mu.Unlock()
	say(o.take())
}

func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.Join(o.crash, "\n")
	if o.more > 0 {
		text += fmt.Sprintf("\n... and %d more lines", o.more)
	}
	o.crash, o.bytes, o.more = nil, 0, 0
	return text
}

// lastWords is the last line, for an error.
func (o *output) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == "" {
		return ""
	}
	return ": " + o.last
}
