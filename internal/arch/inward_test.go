package arch

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What a message says is data: nothing in the programs can turn it to code, but for the children that package isolate starts
// of the very same binary. A pickle library, an interpreter of scripts or a plugin would have to be added here.
func TestNothingTurnsMessagesIntoCode(t *testing.T) {
	t.Parallel()
	starters := []string{"isolate"}
	for _, s := range sources(t) {
		if under(s.pkg, tools) {
			continue
		}
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case slices.Contains([]string{"plugin", "encoding/gob", "net/rpc", "text/template", "html/template"}, path),
				strings.Contains(path, "pickle"), strings.Contains(path, "goja"), strings.Contains(path, "starlark"), strings.Contains(path, "yaegi"), strings.Contains(path, "otto"):
				t.Errorf("%s/%s imports %s", s.pkg, s.name, path)
			case path == "os/exec" && !under(s.pkg, starters):
				t.Errorf("%s/%s imports os/exec", s.pkg, s.name)
			case path == "net/http" && !slices.Contains([]string{"command", "metrics"}, s.pkg):
				t.Errorf("%s/%s imports net/http: nothing is fetched", s.pkg, s.name)
			}
		}
	}
}
