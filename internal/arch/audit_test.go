package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// rows are the audit checklists: the prefix and number of rows of each section of docs/audit.md.
var rows = []struct {
	section, prefix string
	n               int
}{{"01", "", 100}, {"02", "", 54}, {"03", "", 57}, {"05", "N", 41}}

// TestAuditNamesTestsThatExist: docs/audit.md has every row once, and each row names tests or fuzz
// targets that are in the tree.
func TestAuditNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	name := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range name.FindAllSubmatch(source, -1) {
			known[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	sections := map[string]map[string]string{}
	var current map[string]string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			current = map[string]string{}
			sections[title[:2]] = current
			continue
		}
		cells := strings.Split(line, "|")
		if len(cells) < 4 || current == nil {
			continue
		}
		key := strings.TrimSpace(cells[1])
		if !regexp.MustCompile(`^N?\d+$`).MatchString(key) {
			continue
		}
		if _, twice := current[key]; twice {
			t.Errorf("row %s stands twice", key)
		}
		current[key] = strings.Join(cells[3:], "|")
	}
	used := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	for _, r := range rows {
		for i := 1; i <= r.n; i++ {
			key := r.prefix + strconv.Itoa(i)
			cell, ok := sections[r.section][key]
			if !ok {
				t.Errorf("section %s has no row %s", r.section, key)
				continue
			}
			tests := used.FindAllString(cell, -1)
			if len(tests) == 0 {
				t.Errorf("section %s row %s names no test", r.section, key)
			}
			for _, test := range tests {
				if !known[test] {
					t.Errorf("section %s row %s names %s, which does not exist", r.section, key, test)
				}
			}
		}
	}
}
