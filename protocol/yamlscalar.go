package protocol

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// PyYAML's implicit resolvers (YAML 1.1): 010 is 8, 1:30 is 90, yes is true, and 1e5 is text.
var (
	yamlFloat = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?` +
		`|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	yamlInt = regexp.MustCompile(`^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+` +
		`|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	yamlTime = regexp.MustCompile(`^([0-9]{4})-([0-9][0-9]?)-([0-9][0-9]?)` +
		`(?:(?:[Tt]|[ \t]+)([0-9][0-9]?):([0-9][0-9]):([0-9][0-9])(?:\.([0-9]*))?` +
		`(?:[ \t]*(Z|([-+])([0-9][0-9]?)(?::([0-9][0-9]))?))?)?$`)
)

var yamlBools = map[string]bool{
	"yes": true, "Yes": true, "YES": true, "no": false, "No": false, "NO": false,
	"true": true, "True": true, "TRUE": true, "false": false, "False": false, "FALSE": false,
	"on": true, "On": true, "ON": true, "off": false, "Off": false, "OFF": false,
}

// yamlScalar is the value of a scalar by its tag, or by its text when it is plain.
func yamlScalar(n *yaml.Node) (Value, error) {
	if n.Style&yaml.TaggedStyle != 0 {
		return yamlTagged(n)
	}
	s := n.Value
	if !isPlain(n) {
		return s, nil
	}
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil, nil
	case "<<", "=":
		return nil, fmt.Errorf("%q has a meaning of its own, quote it", s)
	}
	if b, ok := yamlBools[s]; ok {
		return b, nil
	}
	if c := s[0]; c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') {
		return s, nil
	}
	switch {
	case yamlFloat.MatchString(s):
		return yamlParseFloat(s)
	case yamlInt.MatchString(s):
		return yamlParseInt(s)
	}
	// A date alone needs two digits each, with a time one is enough.
	if len(s) >= 10 || strings.ContainsRune(s, ':') {
		if m := yamlTime.FindStringSubmatch(s); m != nil && (m[4] != "" || len(s) == 10) {
			return yamlParseTime(m)
		}
	}
	return s, nil
}

func yamlTagged(n *yaml.Node) (Value, error) {
	s := n.Value
	switch n.ShortTag() {
	case "!!str":
		return s, nil
	case "!!null":
		return nil, nil
	case "!!binary":
		b, err := pythonBase64(s)
		return b, err
	case "!!bool":
		switch strings.ToLower(s) {
		case "yes", "true", "on":
			return true, nil
		case "no", "false", "off":
			return false, nil
		}
		return nil, fmt.Errorf("%q is no bool", clip(s))
	case "!!int":
		return yamlParseInt(s)
	case "!!float":
		return yamlParseFloat(s)
	case "!!timestamp":
		if m := yamlTime.FindStringSubmatch(s); m != nil {
			return yamlParseTime(m)
		}
		return nil, fmt.Errorf("%q is no timestamp", clip(s))
	}
	return nil, fmt.Errorf("could not determine a constructor for the tag %q", clip(n.Tag))
}

func yamlSign(s string) (negative bool, rest string) {
	s = strings.ReplaceAll(s, "_", "")
	if s != "" && (s[0] == '-' || s[0] == '+') {
		return s[0] == '-', s[1:]
	}
	return false, s
}

func yamlParseInt(text string) (Value, error) {
	bad := fmt.Errorf("%q is no int", clip(text))
	if len(text) > 2*maxIntDigits {
		return nil, errIntDigits
	}
	negative, s := yamlSign(text)
	n, ok := new(big.Int), false
	switch {
	case strings.HasPrefix(s, "0b"):
		n, ok = n.SetString(s[2:], 2)
	case strings.HasPrefix(s, "0x"):
		n, ok = n.SetString(s[2:], 16)
	case strings.HasPrefix(s, "0"):
		n, ok = n.SetString(s, 8)
	case strings.Contains(s, ":"):
		for part := range strings.SplitSeq(s, ":") {
			p, err := strconv.ParseUint(part, 10, 62)
			if err != nil {
				return nil, bad
			}
			n.Add(n.Mul(n, big.NewInt(60)), new(big.Int).SetUint64(p))
			ok = true
		}
	case len(s) > maxIntDigits:
		return nil, errIntDigits
	default:
		n, ok = n.SetString(s, 10)
	}
	if !ok || s == "" || strings.ContainsAny(s[1:], "+-") {
		return nil, bad
	}
	if negative {
		n.Neg(n)
	}
	return IntValue(n), nil
}

func yamlParseFloat(text string) (Value, error) {
	negative, s := yamlSign(text)
	s = strings.ToLower(s)
	var f float64
	switch {
	case s == ".inf":
		f = math.Inf(1)
	case s == ".nan":
		return math.NaN(), nil
	case strings.Contains(s, ":"):
		for part := range strings.SplitSeq(s, ":") {
			p, err := parsePythonFloat(part)
			if err != nil {
				return nil, err
			}
			f = f*60 + p
		}
	default:
		var err error
		if f, err = parsePythonFloat(s); err != nil {
			return nil, err
		}
	}
	if negative {
		f = -f
	}
	return f, nil
}

// parsePythonFloat is float(s) without a sign: Go alone would also take 0x1p4.
func parsePythonFloat(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || strings.ContainsAny(s, "xXpP_+-") && !strings.ContainsAny(s, "eE") {
		return 0, fmt.Errorf("%q is no float", clip(s))
	}
	return f, nil
}

// yamlParseTime reads the parts of yamlTime: year month day hour minute second fraction zone sign hours minutes.
func yamlParseTime(m []string) (Value, error) {
	n := make([]int, len(m))
	for i, s := range m {
		if i == 7 {
			s = (s + "000000")[:6]
		}
		n[i], _ = strconv.Atoi(s) // digits or empty, by the pattern
	}
	day := Date{n[1], time.Month(n[2]), n[3]}
	if err := day.check(); err != nil {
		return nil, err
	}
	if m[4] == "" {
		return day, nil
	}
	if n[4] > 23 || n[5] > 59 || n[6] > 59 {
		return nil, fmt.Errorf("%q is no time", clip(m[0]))
	}
	zone := time.UTC
	if m[9] != "" {
		offset := n[10]*3600 + n[11]*60
		if offset >= 86400 {
			return nil, fmt.Errorf("%q has no possible offset", clip(m[0]))
		}
		if m[9] == "-" {
			offset = -offset
		}
		if offset != 0 {
			zone = time.FixedZone("", offset)
		}
	}
	t := time.Date(day.Year, day.Month, day.Day, n[4], n[5], n[6], n[7]*1000, zone)
	return DateTime{Time: t, Naive: m[8] == ""}, nil
}
