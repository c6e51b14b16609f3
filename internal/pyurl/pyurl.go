// Package pyurl reads parts of URLs as Python does.
package pyurl

import (
	"strconv"
	"strings"
)

// Unquote is urllib.parse.unquote: a "%" that starts no escape stays.
func Unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Shown quotes a part of a URL for an error where it can be nothing but that part. Of a URL whose password holds a
// slash or a question mark that is not escaped, or that has no host, the password is taken for the port, the path or
// the query: only what looks like a name or number is shown.
func Shown(part string) string {
	if strings.Trim(part, "0123456789-") == "" || len(part) <= 24 && strings.Trim(part, "abcdefghijklmnopqrstuvwxyz_") == "" {
		return strconv.Quote(part)
	}
	return "(not shown: it may be a password whose special characters are not percent-encoded)"
}
