package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// YAML as Python's yaml.safe_load (PyYAML, YAML 1.1) understands it; the library only parses, what a
// scalar means is decided here (see yamlscalar.go). Beside JSON's types there are
//
//	timestamps     datetime or date          !!binary  bytes
//	!!set          Set                       !!omap, !!pairs  a list of pairs
//	<<: *base      keys of another map       &a, *a    the same value in several places
//
// Tags of Python objects and every other unknown tag are refused, as safe_load refuses them. Keys must
// be text: a dict with other keys has no form in a Value, and turning 1 into "1" would not be noticed.
// A value that contains itself is refused, and what aliases repeat is bounded, see yamlReader.

// yamlBudget is how much a document may hold beyond twice its length: values and characters together.
const yamlBudget = 4 << 20

// maxYAML bounds a document's text: each of its nodes, of two bytes perhaps, takes the parser some 200.
// Python, which reads far less than a megabyte a second, could not serve larger ones either.
const maxYAML = 16 << 20

func parseYAML(data []byte, l Limits) (v Value, err error) {
	fail := func(err error) (Value, error) { return nil, &DecodeError{Part: "yaml", Err: err} }
	if len(data) > maxYAML {
		return fail(fmt.Errorf("document of %d bytes: %w", len(data), ErrTooLarge))
	}
	// The parser is a translation of libyaml that reports its own errors by panics; should one of a
	// hostile document escape it, this message is unreadable and the worker goes on.
	defer func() {
		if r := recover(); r != nil {
			v, err = fail(fmt.Errorf("parser: %v", r))
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return fail(err)
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return fail(errors.New("expected a single document"))
	}
	r := yamlReader{left: l.depth(), budget: yamlBudget + 2*len(data), values: l.values()}
	if v, err = r.value(&doc); err != nil {
		return fail(err)
	}
	return v, nil
}

// A yamlReader turns nodes into values. Each node costs one and its text each time it is reached, also
// through an alias, until budget is spent.
type yamlReader struct {
	left   int
	budget int
	values int // values still allowed
}

func (r *yamlReader) spend(n *yaml.Node) error {
	if r.budget -= 1 + len(n.Value); r.budget < 0 {
		return fmt.Errorf("line %d: aliases repeat too much: %w", n.Line, ErrTooLarge)
	}
	return nil
}

func (r *yamlReader) value(n *yaml.Node) (Value, error) {
	if err := r.spend(n); err != nil {
		return nil, err
	}
	if r.values -= 1 + containerCost; r.values < 0 {
		return nil, errValues
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) != 1 {
			return nil, nil
		}
		return r.value(n.Content[0])
	case yaml.AliasNode:
		// An alias of what is around it ends at the depth limit.
		return r.nested(func() (Value, error) { return r.value(n.Alias) })
	case yaml.ScalarNode:
		v, err := yamlScalar(n)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		return v, nil
	case yaml.SequenceNode:
		return r.nested(func() (Value, error) { return r.sequence(n) })
	case yaml.MappingNode:
		return r.nested(func() (Value, error) { return r.mapping(n) })
	}
	return nil, nil
}

func (r *yamlReader) nested(read func() (Value, error)) (Value, error) {
	if r.left == 0 {
		return nil, errDepth
	}
	r.left--
	defer func() { r.left++ }()
	return read()
}

func badTag(n *yaml.Node) error {
	return fmt.Errorf("line %d: could not determine a constructor for the tag %q", n.Line, clip(n.Tag))
}

func (r *yamlReader) sequence(n *yaml.Node) (Value, error) {
	tag := n.ShortTag()
	switch tag {
	case "!!seq", "!!omap", "!!pairs":
	default:
		return nil, badTag(n)
	}
	list := make([]Value, 0, len(n.Content))
	for _, c := range n.Content {
		v, err := r.element(c, tag != "!!seq")
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

// element reads one element of a list; of an ordered map, a pair is written as a map of one key.
func (r *yamlReader) element(n *yaml.Node, pair bool) (Value, error) {
	if !pair {
		return r.value(n)
	}
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 {
		return nil, fmt.Errorf("line %d: expected a mapping of length 1", n.Line)
	}
	k, err := r.value(n.Content[0])
	if err != nil {
		return nil, err
	}
	v, err := r.value(n.Content[1])
	return []Value{k, v}, err
}

func (r *yamlReader) mapping(n *yaml.Node) (Value, error) {
	tag := n.ShortTag()
	if tag != "!!map" && tag != "!!set" {
		return nil, badTag(n)
	}
	pairs, err := r.flatten(n)
	if err != nil {
		return nil, err
	}
	if tag == "!!set" {
		return r.set(pairs)
	}
	o := &Object{members: make([]Member, 0, len(pairs))}
	for _, p := range pairs {
		key, err := r.key(p[0])
		if err != nil {
			return nil, err
		}
		v, err := r.value(p[1])
		if err != nil {
			return nil, err
		}
		o.Set(key, v)
	}
	return o, nil
}

func (r *yamlReader) key(n *yaml.Node) (string, error) {
	if n.Kind == yaml.ScalarNode && isPlain(n) && n.Value == "=" {
		return "=", nil
	}
	k, err := r.value(n)
	if err != nil {
		return "", err
	}
	key, ok := k.(string)
	if !ok {
		return "", fmt.Errorf("line %d: a dict's key is %s, want str", n.Line, TypeName(k))
	}
	return key, nil
}

func (r *yamlReader) set(pairs [][2]*yaml.Node) (Value, error) {
	set := Set{}
	seen := map[any]bool{}
	for _, p := range pairs {
		v, err := r.value(p[0])
		if err != nil {
			return nil, err
		}
		id, ok := hashable(v)
		if !ok {
			return nil, fmt.Errorf("line %d: unhashable type: '%s'", p[0].Line, TypeName(v))
		}
		if !seen[id] {
			seen[id] = true
			set = append(set, v)
		}
	}
	return set, nil
}

// hashable is what tells an element of a set from the others.
func hashable(v Value) (id any, ok bool) {
	switch v := v.(type) {
	case []Value, *Object, Set:
		return nil, false
	case []byte:
		return [2]string{"bytes", string(v)}, true
	case nil, bool, int64, float64, string, Date:
		return v, true
	}
	return Repr(v), true
}

// flatten is the pairs of a map after those that its merge keys (<<) bring, so that its own win.
func (r *yamlReader) flatten(n *yaml.Node) ([][2]*yaml.Node, error) {
	if r.left == 0 {
		return nil, errDepth
	}
	r.left--
	defer func() { r.left++ }()
	var merged, own [][2]*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !isMerge(k) {
			own = append(own, [2]*yaml.Node{k, v})
			continue
		}
		sources := []*yaml.Node{v}
		if s := follow(v); s.Kind == yaml.SequenceNode {
			sources = slices.Clone(s.Content)
			slices.Reverse(sources) // the first wins
		}
		for _, s := range sources {
			s = follow(s)
			if s.Kind != yaml.MappingNode {
				return nil, fmt.Errorf("line %d: expected a mapping or list of mappings for merging", s.Line)
			}
			if err := r.spend(s); err != nil {
				return nil, err
			}
			pairs, err := r.flatten(s)
			if err != nil {
				return nil, err
			}
			if r.budget -= len(pairs); r.budget < 0 {
				return nil, r.spend(s)
			}
			merged = append(merged, pairs...)
		}
	}
	return append(merged, own...), nil
}

func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

func isMerge(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Value == "<<" && isPlain(n) || n.Style&yaml.TaggedStyle != 0 && n.ShortTag() == "!!merge")
}

// isPlain: neither quoted nor tagged, so that its text decides its type.
func isPlain(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
}
