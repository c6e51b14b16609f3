package interop_test

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A ledger is what all processes of a soak have written down (soakworker's journal, pyfixtures/soak.py): it is
// outside of both brokers, and a kill takes nothing from it.
type ledger struct {
	runs  map[string][]soakRun // by task and retries
	notes map[string]int       // failures that an errback heard of
	kills map[int]string       // by process: the point at which it killed itself
	begun map[string]int       // runs by task
}

// A soakRun is one time that a handler began.
type soakRun struct {
	pid   int
	name  string
	ended bool
}

func readLedger(path string) (*ledger, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &ledger{runs: map[string][]soakRun{}, notes: map[string]int{}, kills: map[int]string{}, begun: map[string]int{}}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		kind, rest, _ := strings.Cut(lines.Text(), " ")
		switch kind {
		case "B", "E":
			var id, retries, name string
			var pid int
			if _, err := fmt.Sscan(rest, &id, &retries, &pid, &name); err != nil {
				return nil, fmt.Errorf("ledger line %q: %w", lines.Text(), err)
			}
			key := id + "/" + retries
			if kind == "B" {
				l.runs[key] = append(l.runs[key], soakRun{pid: pid, name: name})
				l.begun[id]++
				continue
			}
			for i := range l.runs[key] {
				if r := &l.runs[key][i]; r.pid == pid && !r.ended {
					r.ended = true
					break
				}
			}
		case "N":
			l.notes[rest]++
		case "K":
			var pid int
			var point string
			if _, err := fmt.Sscan(rest, &pid, &point); err != nil {
				return nil, fmt.Errorf("ledger line %q: %w", lines.Text(), err)
			}
			l.kills[pid] = point
		default:
			return nil, fmt.Errorf("ledger line %q", lines.Text())
		}
	}
	return l, nil
}

// duplicates are the runs begun once more than needed: again, because a process that had begun the same run was
// killed; and twice, because what made the run was done twice. A task that asks for its own message back
// (soak.requeue) begins once more by its own wish.
func (l *ledger) duplicates(killed map[int]bool) (again, twice int) {
	for _, runs := range l.runs {
		byKill := 0
		for _, r := range runs {
			if killed[r.pid] {
				byKill++
			}
		}
		more := len(runs) - 1
		if runs[0].name == "soak.requeue" && more > 0 {
			more--
		}
		direct := min(more, byKill)
		again += direct
		twice += more - direct
	}
	return again, twice
}

// unrun are the tasks that never began.
func (l *ledger) unrun(ids map[string]string, except ...string) (ids2 []string) {
	for id, kind := range ids {
		if l.begun[id] == 0 && !slices.Contains(except, kind) {
			ids2 = append(ids2, id)
		}
	}
	slices.Sort(ids2)
	return ids2
}
