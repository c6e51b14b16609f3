package metrics

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// text writes Prometheus' text format, version 0.0.4: for each family a HELP and a TYPE line, then its samples.
// A family is written at once; the caller sees to it that no name comes twice.
type text struct{ b bytes.Buffer }

// contentType is what Prometheus and everything like it reads.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// A label is one name and value.
type label struct{ name, value string }

// family begins a metric: kind is counter, gauge, histogram or summary.
func (t *text) family(name, kind, help string) {
	t.b.WriteString("# HELP ")
	t.b.WriteString(name)
	t.b.WriteByte(' ')
	t.b.WriteString(helpEscapes.Replace(help))
	t.b.WriteString("\n# TYPE ")
	t.b.WriteString(name)
	t.b.WriteByte(' ')
	t.b.WriteString(kind)
	t.b.WriteByte('\n')
}

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func (t *text) sample(name string, value float64, labels ...label) {
	t.b.WriteString(name)
	if len(labels) > 0 {
		for i, l := range labels {
			t.b.WriteByte("{,"[min(i, 1)])
			t.b.WriteString(l.name)
			t.b.WriteString(`="`)
			t.b.WriteString(labelEscapes.Replace(strings.ToValidUTF8(l.value, "�")))
			t.b.WriteByte('"')
		}
		t.b.WriteByte('}')
	}
	t.b.WriteByte(' ')
	t.b.Write(strconv.AppendFloat(t.b.AvailableBuffer(), value, 'g', -1, 64))
	t.b.WriteByte('\n')
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
	with := append(make([]label, 0, len(labels)+1), labels...)
	with = append(with, label{name: "le"})
	le := &with[len(with)-1].value
	var sum uint64
	for i, n := range h.counts {
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		sum += n
		*le = boundText(bound)
		t.sample(name+"_bucket", float64(sum), with...)
	}
	t.sample(name+"_sum", h.sum, labels...)
	t.sample(name+"_count", float64(sum), labels...)
}

// boundText is a bound as Python's client writes it, "1.0": recording rules of celery-exporter's users name it so.
func boundText(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}
