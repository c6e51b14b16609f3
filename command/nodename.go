package command

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode"
)

// A node's name is name@host. It must be unique per broker: remote control and monitors know a worker by it.

// nodeName reads -n as Celery does: text without @ is the host, a missing half is the default (celery, and this
// host), and then %h is this host's name, %n its first label, %d the rest of it; %% is a percent sign. Any other
// %x is an error.
func nodeName(format string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("-n: the host name cannot be read: %w", err)
	}
	name, err := nodeNameOn(format, host)
	if err != nil {
		return "", usageError{fmt.Errorf("-n %q: %w", format, err)}
	}
	return name, nil
}

func nodeNameOn(format, host string) (string, error) {
	name, where, both := strings.Cut(format, "@")
	if !both {
		name, where = "", format
	}
	if name == "" {
		name = "celery"
	}
	if where == "" {
		where = host
	}
	short, domain, _ := strings.Cut(host, ".")
	full, err := expandFormat(name+"@"+where, map[string]string{"h": host, "n": short, "d": domain, "i": "0", "I": ""})
	if err != nil {
		return "", err
	}
	if strings.ContainsFunc(full, unicode.IsControl) || len(full) > 200 {
		return "", fmt.Errorf("a node name is name@host, printable and at most 200 bytes")
	}
	return full, nil
}

// expandNode expands the text of --logfile, --pidfile and --statedb for the node name@host: %n is its name, %h its
// host, %d the host's domain, %p the whole; %i and %I are the index of a pool process, which here is always the
// parent's (0 and nothing); %% is a percent sign. Any other %x is an error.
func expandNode(format, node string) (string, error) {
	name, host, both := strings.Cut(node, "@")
	if !both {
		name, host = "celery", node
	}
	_, domain, _ := strings.Cut(host, ".")
	return expandFormat(format, map[string]string{"h": host, "n": name, "d": domain, "p": node, "i": "0", "I": ""})
}

// percent is what Celery takes for an abbreviation; any other percent sign stands for itself.
var percent = regexp.MustCompile(`%[%\pL\pN_]`)

func expandFormat(format string, keys map[string]string) (string, error) {
	var unknown string
	out := percent.ReplaceAllStringFunc(format, func(m string) string {
		if m == "%%" {
			return "%"
		}
		v, ok := keys[m[1:]]
		if !ok && unknown == "" {
			unknown = m
		}
		return v
	})
	if unknown != "" {
		return "", fmt.Errorf("unknown format %s in string %q; write %%%s for a percent sign", unknown, format, unknown)
	}
	return out, nil
}
