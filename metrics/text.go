package metrics

import (
	"io"
	"strconv"
	"strings"
)

// text writes Prometheus' text format, version 0.0.4: for each family a HELP and a TYPE line, then its samples.
// A family is written at once; the caller sees to it that no name comes twice. What is written goes out in pieces, so
// that a scrape of many tasks needs no more memory than one of few.
type text struct {
	to io.Writer
	b  []byte             // not yet written to it
	le map[float64]string // bounds as text: few, and written thousands of times
}

// pieceBytes is when text is written out.
const pieceBytes = 16 << 10

func newText(to io.Writer) *text {
	return &text{to: to, b: make([]byte, 0, pieceBytes+1<<10), le: map[float64]string{}}
}

// flush writes out what is left.
func (t *text) flush() {
	t.to.Write(t.b) //nolint:errcheck // the scraper has gone; the next scrape tells
	t.b = t.b[:0]
}

func (t *text) write(s string) { t.b = append(t.b, s...) }

// line ends a line.
func (t *text) line() {
	t.write("\n")
	if len(t.b) >= pieceBytes {
		t.flush()
	}
}

// contentType is what Prometheus and everything like it reads.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// A label is one name and value.
type label struct{ name, value string }

// family begins a metric: kind is counter, gauge, histogram or summary.
func (t *text) family(name, kind, help string) {
	t.write("# HELP ")
	t.write(name)
	t.write(" ")
	t.write(helpEscapes.Replace(help))
	t.line()
	t.write("# TYPE ")
	t.write(name)
	t.write(" ")
	t.write(kind)
	t.line()
}

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func (t *text) sample(name string, value float64, labels ...label) {
	t.part(name, "", value, labels, "")
}

// part is a sample of a family whose name has a suffix; le is a bucket's bound, "" for none.
func (t *text) part(name, suffix string, value float64, labels []label, le string) {
	t.write(name)
	t.write(suffix)
	mark := "{"
	write := func(name, value string) {
		t.write(mark)
		t.write(name)
		t.write(`="`)
		t.write(labelEscapes.Replace(strings.ToValidUTF8(value, "�")))
		t.write(`"`)
		mark = ","
	}
	for _, l := range labels {
		write(l.name, l.value)
	}
	if le != "" {
		write("le", le)
	}
	if mark == "," {
		t.write("}")
	}
	t.write(" ")
	t.b = strconv.AppendFloat(t.b, value, 'g', -1, 64)
	t.line()
}

// gauge and counter are families of one sample.
func (t *text) gauge(name, help string, value float64) {
	t.family(name, "gauge", help)
	t.sample(name, value)
}

func (t *text) counter(name, help string, value float64) {
	t.family(name, "counter", help)
	t.sample(name, value)
}

// A buckets is a histogram to be written: counts has one more than bounds, for what exceeds them all.
type buckets struct {
	bounds []float64
	counts []uint64
	sum    float64
}

// coarser is h with fewer bounds, each of which is one of h's.
func (h buckets) coarser(bounds []float64) buckets {
	out := buckets{bounds: bounds, counts: make([]uint64, len(bounds)+1), sum: h.sum}
	at := 0
	for i, n := range h.counts {
		if at < len(bounds) && i > 0 && h.bounds[i-1] >= bounds[at] {
			at++
		}
		out.counts[at] += n
	}
	return out
}

func (t *text) histogram(name string, h buckets, labels ...label) {
	var sum uint64
	for i, n := range h.counts {
		le := "+Inf"
		if i < len(h.bounds) {
			le = t.boundText(h.bounds[i])
		}
		sum += n
		t.part(name, "_bucket", float64(sum), labels, le)
	}
	t.part(name, "_sum", h.sum, labels, "")
	t.part(name, "_count", float64(sum), labels, "")
}

// boundText is a bound as Python's client writes it, "1.0": recording rules of celery-exporter's users name it so.
func (t *text) boundText(f float64) string {
	s, known := t.le[f]
	if !known {
		s = strconv.FormatFloat(f, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		t.le[f] = s
	}
	return s
}
