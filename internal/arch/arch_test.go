// Package arch holds the architecture as a test: which package may import which, where a driver's library
// may appear, and where a goroutine may start. It has no code of its own.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stalkworker/stalk"

// allowed is the layering: the packages of ours that each package may import, tests aside.
var allowed = map[string][]string{
	"protocol":                        {},
	"transports":                      {"protocol"},
	"resultbackend":                   {"protocol"},
	"handlers":                        {"protocol"},
	"handlers/handlerstest":           {"protocol", "handlers"},
	"handlers/demo":                   {"protocol", "handlers"},
	"handlers/images":                 {"protocol", "handlers", "handlers/images/pngwrite", "handlers/images/jpegscale", "handlers/images/jpegwrite", "handlers/images/pngrows", "handlers/images/vp8frame", "handlers/images/vp8lossless"},
	"handlers/images/jpegscale":       {},
	"handlers/images/pngwrite":        {},
	"handlers/images/jpegwrite":       {},
	"handlers/images/pngrows":         {},
	"handlers/images/vp8frame":        {},
	"handlers/images/vp8lossless":     {},
	"isolate":                         {"protocol", "handlers"},
	"canvas":                          {"protocol"},
	"internal/dispatch":               {"protocol", "canvas", "transports", "resultbackend"},
	"client":                          {"protocol", "canvas", "transports", "resultbackend", "internal/dispatch", "internal/redial", "internal/ids"},
	"worker":                          {"protocol", "canvas", "transports", "resultbackend", "handlers", "isolate", "internal/dispatch", "internal/ids"},
	"metrics":                         {"transports", "worker"},
	"internal/ids":                    {},
	"internal/batch":                  {},
	"internal/pyurl":                  {},
	"internal/pytls":                  {},
	"signing":                         {"protocol"},
	"internal/redisopt":               {"internal/pyurl", "internal/pytls"},
	"internal/redial":                 {"transports"},
	"transports/rabbitmq":             {"protocol", "transports", "internal/pyurl", "internal/pytls"},
	"transports/redisbroker":          {"protocol", "transports", "internal/redisopt", "internal/ids", "internal/batch"},
	"transports/membroker":            {"protocol", "transports"},
	"transports/transporttest":        {"protocol", "transports"},
	"resultbackend/redisresult":       {"protocol", "resultbackend", "internal/redisopt", "internal/batch"},
	"resultbackend/rpcresult":         {"protocol", "resultbackend", "transports", "internal/redial"},
	"resultbackend/memresult":         {"protocol", "resultbackend"},
	"resultbackend/resultbackendtest": {"protocol", "resultbackend"},
	"dial": {
		"internal/pytls", "protocol", "transports", "resultbackend", "transports/rabbitmq", "transports/redisbroker",
		"resultbackend/redisresult", "resultbackend/rpcresult",
	},
	"command": {"protocol", "canvas", "client", "internal/ids", "transports", "resultbackend", "handlers", "isolate", "handlers/demo", "handlers/images", "worker", "dial", "metrics", "signing"},
	".":       {"command"},
}

// tools are packages that build or measure the project and are part of no program.
var tools = []string{"internal/testservers", "internal/arch", "bench", "demo", "interop_test", "handlers/images/sampleimage", "pyfixtures"}

// drivers are libraries that stay inside the packages named.
var drivers = map[string][]string{
	"github.com/rabbitmq/amqp091-go": {"transports/rabbitmq"},
	"github.com/redis/go-redis":      {"transports/redisbroker", "resultbackend/redisresult", "internal/redisopt"},
	"github.com/vmihailenco/msgpack": {"protocol"},
	"github.com/urfave/cli":          {"command"},
	"github.com/alicebob/miniredis":  {"command"},
	"go.yaml.in/yaml":                {"protocol", "command"},
	"github.com/klauspost/compress":  {"protocol", "handlers/images/pngwrite"},
	"github.com/andybalholm/brotli":  {"protocol"},
	"github.com/ulikunitz/xz":        {"protocol"},
	"github.com/dsnet/compress":      {"protocol"},
	"golang.org/x/image":             {"handlers/images"},
}

// A source is one parsed file that is no test.
type source struct {
	pkg  string // folder below the module, "." for its root
	name string
	file *ast.File
	set  *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, source{pkg: filepath.ToSlash(filepath.Dir(rel)), name: filepath.Base(rel), file: f, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("found %d files: the walk is broken", len(out))
	}
	return out
}

func under(pkg string, of []string) bool {
	return slices.ContainsFunc(of, func(p string) bool { return pkg == p || strings.HasPrefix(pkg, p+"/") })
}

func TestImportsFollowTheLayers(t *testing.T) {
	for _, s := range sources(t) {
		if under(s.pkg, tools) {
			continue
		}
		may, known := allowed[s.pkg]
		if !known {
			t.Errorf("%s: the package has no place in the layers; give it one in this test", s.pkg)
			continue
		}
		for _, spec := range s.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			ours, ok := strings.CutPrefix(path, module+"/")
			if ok && !slices.Contains(may, ours) {
				t.Errorf("%s/%s imports %s, which its layer may not", s.pkg, s.name, ours)
			}
		}
	}
}

func TestDriversStayInTheirPackages(t *testing.T) {
	for _, s := range sources(t) {
		if under(s.pkg, tools) {
			continue
		}
		for _, spec := range s.file.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			for library, homes := range drivers {
				if (path == library || strings.HasPrefix(path, library+"/")) && !slices.Contains(homes, s.pkg) {
					t.Errorf("%s/%s imports %s, which belongs in %v", s.pkg, s.name, path, homes)
				}
			}
		}
	}
}

// TestGoroutinesStartInTheRoster: in worker/ only run.go starts goroutines.
func TestGoroutinesStartInTheRoster(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg != "worker" || s.name == "run.go" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: a goroutine outside run.go", s.set.Position(g.Pos()))
			}
			return true
		})
	}
}

// TestOnlyMainEndsTheProcess: os.Exit and log.Fatal exist in command.Main and the tools.
func TestOnlyMainEndsTheProcess(t *testing.T) {
	for _, s := range sources(t) {
		if under(s.pkg, tools) || s.pkg == "command" && s.name == "command.go" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "os" && sel.Sel.Name == "Exit" || x.Name == "log" && strings.HasPrefix(sel.Sel.Name, "Fatal")) {
				t.Errorf("%s: %s.%s ends the process", s.set.Position(sel.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
	}
}
