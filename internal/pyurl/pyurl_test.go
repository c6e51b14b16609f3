package pyurl

import "testing"

func TestUnquote(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", "a%2Fb%2fc": "a/b/c", "100%": "100%", "%4": "%4", "%zz%41": "%zzA",
		"%25%32": "%2", "%2525": "%25", "+": "+", "%C3%A9": "é",
	} {
		if got := Unquote(in); got != want {
			t.Errorf("Unquote(%q) = %q, want %q", in, got, want)
		}
	}
}
