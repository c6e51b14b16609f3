package interop_test

import (
	"debug/elf"
	"testing"
)

// A program that can call a method by a name found at run time keeps every exported method of every type: of this one that is
// 11 MB of 39, and 3 MB of its memory. text/template does, and whatever runs urfave/cli's App prints help with it.
func TestTheProgramKeepsOnlyTheMethodsItCalls(t *testing.T) {
	need(t)
	if celeryInstead {
		t.Skip("no stalk here")
	}
	program, err := elf.Open(stalkBin)
	if err != nil {
		t.Skipf("not on this system: %v", err)
	}
	defer program.Close()
	symbols, err := program.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == "time.Time.GobEncode" { // nobody calls it
			t.Error("every exported method is in the program; go tool nm tells whether by text/template, html/template or another caller of reflect's MethodByName")
		}
	}
}
