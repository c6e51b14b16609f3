package command

import "testing"

// The wanted names were printed by celery.utils.nodenames.
func TestNodeNamesAreReadAsCeleryReadsThem(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", "celery@web1.example.com"},
		{"celery@%h", "celery@web1.example.com"},
		{"foo", "celery@foo"},
		{"foo@", "foo@web1.example.com"},
		{"@", "celery@web1.example.com"},
		{"@x", "celery@x"},
		{"w1@%h", "w1@web1.example.com"},
		{"w1@%n", "w1@web1"},
		{"w1@%d", "w1@example.com"},
		{"%n@x", "web1@x"},
		{"a@b@c", "a@b@c"},
		{"%%@x", "%@x"},
		{"%%h@x", "%h@x"},
		{"%", "celery@%"},
		{"a%", "celery@a%"},
		{"%h", "celery@web1.example.com"},
		{"w@%i%I", "w@0"},
	} {
		if got, err := nodeNameOn(tt.in, "web1.example.com"); err != nil || got != tt.want {
			t.Errorf("-n %q = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
	if got, err := nodeNameOn("w1@%d", "web1"); err != nil || got != "w1@" {
		t.Errorf("-n w1@%%d without a domain = %q, %v", got, err)
	}
	for _, in := range []string{"w1@%q", "w1@%p", "%é@x", "w1@a\nb"} {
		if got, err := nodeNameOn(in, "web1"); err == nil {
			t.Errorf("-n %q = %q, want an error", in, got)
		}
	}
}

func TestFileNamesAreExpandedForTheNode(t *testing.T) {
	for _, tt := range []struct{ in, node, want string }{
		{"/x/%n-%h-%d-%p-%i-%I.log", "w1@web1.example.com", "/x/w1-web1.example.com-example.com-w1@web1.example.com-0-.log"},
		{"%%n 100% %", "w1@web1", "%n 100% %"},
		{"%n|%h|%d", "foo", "celery|foo|"},
		{"/plain", "w1@web1", "/plain"},
	} {
		if got, err := expandNode(tt.in, tt.node); err != nil || got != tt.want {
			t.Errorf("%q for %s = %q, %v; want %q", tt.in, tt.node, got, err, tt.want)
		}
	}
	if got, err := expandNode("/x/%q", "w1@web1"); err == nil {
		t.Errorf("%%q = %q, want an error", got)
	}
}
